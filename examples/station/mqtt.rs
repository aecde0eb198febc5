//! The way to a real broker: through a stretch of cable that can be cut. The ear at the far end has a connection of its
//! own that goes past the cable.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use edge_outbox::broker::{Mqtt, MqttSettings};
use edge_outbox::{DUPLICATE_HEADER, ID_HEADER};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use rumqttc::v5::{Client, Event, Incoming, MqttOptions};

use crate::Failure;
use crate::route::{Arrived, EAR, Link, Route};

/// How long the broker may take to answer the ear.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn route(url: &str, run: &str) -> Result<Route, Failure> {
    let direct = MqttSettings::from_url(url)?;
    if direct.tls.is_some() {
        return Err("the station's ear, which hears what arrives, speaks no TLS: give it mqtt://".into());
    }
    let name = format!("mqtt://{}:{}, through a cable that can be cut", direct.host, direct.port());
    let far_end = listen(&direct, run)?;
    let cable = Cable::lay(&direct.host, direct.port())?;
    let mut cabled = direct.with_port(cable.port);
    cabled.host = Ipv4Addr::LOCALHOST.to_string();
    Ok(Route { name, broker: Box::new(Mqtt::new(cabled)?), link: Box::new(cable), far_end })
}

/// Subscribes to all that this run sends; when it returns, the broker knows.
fn listen(broker: &MqttSettings, run: &str) -> Result<Receiver<Arrived>, Failure> {
    let mut options = MqttOptions::new(format!("station{run}"), host(&broker.host), broker.port());
    if let (Some(user), Some(password)) = (&broker.user, &broker.password) {
        options.set_credentials(user, password);
    }
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe(format!("weather/{run}/#"), QoS::ExactlyOnce)?;
    let (tell, far_end) = sync_channel(EAR);
    let (there, subscribed) = sync_channel(1);
    thread::spawn(move || {
        for event in connection.iter() {
            let heard = match event {
                Ok(Event::Incoming(Incoming::SubAck(_))) => there.try_send(Ok(())).is_ok(),
                Ok(Event::Incoming(Incoming::Publish(publish))) => tell.send(arrived(publish)).is_ok(),
                Ok(_) => true,
                Err(why) => {
                    let _ = there.try_send(Err(why));
                    false
                }
            };
            if !heard {
                break;
            }
        }
    });
    match subscribed.recv_timeout(PATIENCE) {
        Ok(Ok(())) => Ok(far_end),
        Ok(Err(why)) => Err(format!("no broker to listen to at {}:{}: {why}", broker.host, broker.port()).into()),
        Err(_) => Err(format!("{}:{} gave no answer within {PATIENCE:?}", broker.host, broker.port()).into()),
    }
}

fn arrived(publish: Publish) -> Arrived {
    let properties = publish.properties.map(|properties| properties.user_properties).unwrap_or_default();
    let find = |wanted: &str| properties.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    Arrived {
        id: find(ID_HEADER).unwrap_or_default(),
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload.to_vec(),
        maybe_repeated: find(DUPLICATE_HEADER).is_some(),
    }
}

/// The bare address of an IPv6 host.
fn host(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Carries bytes between a port of this machine and the broker, while it is whole.
struct Cable {
    port: u16,
    ends: Arc<Mutex<Ends>>,
}

#[derive(Default)]
struct Ends {
    cut: bool,
    streams: Vec<TcpStream>,
}

impl Cable {
    fn lay(broker: &str, port: u16) -> io::Result<Cable> {
        let broker = (host(broker).to_owned(), port);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let cable = Cable { port: listener.local_addr()?.port(), ends: Arc::default() };
        let ends = Arc::clone(&cable.ends);
        // Waits for connections as long as the station runs.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut ends = lock(&ends);
                if ends.cut {
                    continue; // dropped: whoever connects is hung up on
                }
                if let Err(why) = join(client, &broker, &mut ends.streams) {
                    log::warn!("the cable does not reach the broker: {why}");
                }
            }
        });
        Ok(cable)
    }
}

impl Link for Cable {
    fn cut(&self) {
        let mut ends = lock(&self.ends);
        ends.cut = true;
        for stream in ends.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both); // it may have ended by itself
        }
    }

    fn heal(&self) {
        lock(&self.ends).cut = false;
    }
}

/// One connection, in both directions.
fn join(client: TcpStream, broker: &(String, u16), streams: &mut Vec<TcpStream>) -> io::Result<()> {
    let server = TcpStream::connect(broker)?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        from.set_nodelay(true)?;
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to); // ends with the connection, however that ends
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    streams.extend([client, server]);
    Ok(())
}

fn lock(ends: &Mutex<Ends>) -> MutexGuard<'_, Ends> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}
