//! The way to the broker, a hand on its link, and an ear at its far end.

use std::error::Error;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use edge_outbox::broker::{Broker, InProcess};

/// A message as it came out at the far end.
pub struct Arrived {
    /// The message's id, the same for each repetition.
    pub id: String,
    pub topic: String,
    pub payload: Vec<u8>,
    /// It said of itself that it may have been delivered before.
    pub maybe_repeated: bool,
}

/// What can be done to a link.
pub trait Link {
    fn cut(&self);
    fn heal(&self);
}

pub struct Route {
    /// For the reader of the output; without credentials.
    pub name: String,
    pub broker: Box<dyn Broker>,
    pub link: Box<dyn Link>,
    pub far_end: Receiver<Arrived>,
}

/// How many messages may wait for the audit.
pub const EAR: usize = 1_024;
/// There and back, on the in-process link: about what a mobile network takes.
const ROUND_TRIP: Duration = Duration::from_millis(40);

impl Route {
    pub fn open(url: Option<&str>, run: &str) -> Result<Route, Box<dyn Error + Send + Sync>> {
        match url {
            None => Route::in_process(),
            #[cfg(feature = "mqtt")]
            Some(url) => crate::mqtt::route(url, run),
            #[cfg(not(feature = "mqtt"))]
            Some(_) => {
                let _ = run;
                Err("MQTT was left out of this build: build it with `--features mqtt`, or leave --broker out".into())
            }
        }
    }

    fn in_process() -> Result<Route, Box<dyn Error + Send + Sync>> {
        let broker = InProcess::new();
        broker.delay_acknowledgements(ROUND_TRIP);
        // Everything, what an earlier run left in the database included.
        let subscriber = broker.subscribe("#")?;
        let (tell, far_end) = sync_channel(EAR);
        thread::spawn(move || {
            for arrival in subscriber.iter() {
                let arrived = Arrived {
                    id: arrival.id.to_string(),
                    topic: arrival.message.topic.clone(),
                    payload: arrival.message.payload.as_bytes().to_vec(),
                    maybe_repeated: arrival.possible_duplicate,
                };
                if tell.send(arrived).is_err() {
                    break;
                }
                arrival.acknowledge();
            }
        });
        let name = format!("a broker within the process, {} ms away", ROUND_TRIP.as_millis());
        Ok(Route { name, broker: Box::new(broker.clone()), link: Box::new(broker), far_end })
    }
}

impl Link for InProcess {
    fn cut(&self) {
        self.go_offline();
    }

    fn heal(&self) {
        self.go_online();
    }
}
