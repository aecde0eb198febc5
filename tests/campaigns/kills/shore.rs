//! The other side of the network: the broker of one database, and who tells what arrived there.

use crate::mosquitto::Mosquitto;
use crate::scripted::{Script, Scripted};
use crate::subscriber::Subscriber;
use crate::workload::Reading;

pub enum Shore {
    /// Ours: it writes down what comes, and acknowledges it then.
    Recorder(Scripted),
    /// A real one; what it passed on to its subscriber has arrived.
    Mosquitto { broker: Mosquitto, subscriber: Subscriber },
}

impl Shore {
    pub fn recorder() -> Self {
        Shore::Recorder(Scripted::start(Script::default()))
    }

    pub fn mosquitto() -> Self {
        let broker = Mosquitto::start();
        let subscriber = Subscriber::start(broker.port(), "biz/#");
        Shore::Mosquitto { broker, subscriber }
    }

    pub fn port(&self) -> u16 {
        match self {
            Shore::Recorder(broker) => broker.port(),
            Shore::Mosquitto { broker, .. } => broker.port(),
        }
    }

    /// What arrived since this was asked last, in its order.
    pub fn arrived(&self) -> Vec<Result<Reading, String>> {
        match self {
            Shore::Recorder(broker) => {
                let published = broker.take().published;
                published.iter().map(|one| Reading::read(&one.topic, one.name.as_bytes())).collect()
            }
            Shore::Mosquitto { subscriber, .. } => {
                let lines = subscriber.collect();
                let parts = lines.iter().map(|line| line.split_once(' ').unwrap_or((line, "")));
                parts.map(|(topic, payload)| Reading::read(topic, payload.as_bytes())).collect()
            }
        }
    }
}
