//! Where the messages go, and what is said of it.

use std::collections::VecDeque;
use std::thread;
use std::time::Instant;

use edge_outbox::Error;
use edge_outbox::broker::{Broker, Check, Delivery, InProcess, Link, Mqtt};

use crate::say;
use crate::writer::Reading;

/// The broker of that URL.
pub fn of(url: &str) -> Result<Announced, Error> {
    let broker: Box<dyn Broker> =
        if url == "in-process" { Box::new(in_process()?) } else { Box::new(Mqtt::from_url(&impatient(url))?) };
    Ok(Announced { broker, sessions: 0 })
}

/// Looks for the broker no longer than for an answer, unless it says for how long.
fn impatient(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    if url.contains("connect_timeout=") { url.to_owned() } else { format!("{url}{separator}connect_timeout=2s") }
}

/// One that tells of each message before it is acknowledged.
fn in_process() -> Result<InProcess, Error> {
    let broker = InProcess::new();
    let everything = broker.subscribe("#")?;
    thread::spawn(move || {
        for arrival in everything.iter() {
            match serde_json::from_slice::<Reading>(arrival.message.payload.as_bytes()) {
                Ok(reading) if reading.is_intact() => say(format_args!("GOT {reading}")),
                _ => say(format_args!("DAMAGED {}", arrival.id)),
            }
            arrival.acknowledge();
        }
    });
    Ok(broker)
}

/// Says when a session is begun anew.
pub struct Announced {
    broker: Box<dyn Broker>,
    sessions: u64,
}

impl Broker for Announced {
    fn connect(&mut self, link: Link) {
        self.sessions += 1;
        if self.sessions > 1 {
            say("RECONNECT");
        }
        self.broker.connect(link);
    }

    fn send(&mut self, queue: &mut VecDeque<Delivery>) {
        self.broker.send(queue);
    }

    fn disconnect(&mut self, until: Instant) {
        self.broker.disconnect(until);
    }

    fn ping(&mut self) {
        self.broker.ping();
    }

    fn check(&self) -> Option<Check> {
        self.broker.check()
    }
}
