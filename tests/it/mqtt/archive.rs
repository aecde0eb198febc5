//! A subscriber that is away, and for whom mosquitto keeps everything, on its disk.

use std::collections::BTreeSet;
use std::time::Instant;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::ConnectProperties;
use rumqttc::v5::{Client, Connection, Event, Incoming, MqttOptions};

use super::SOON;

/// A durable session with a subscription, and nobody in it until [`read_until`](Self::read_until).
pub struct Archive {
    port: u16,
}

impl Archive {
    pub fn subscribe(port: u16, filter: &str) -> Self {
        let archive = Archive { port };
        let (client, mut connection) = archive.connect();
        client.subscribe(filter, QoS::AtLeastOnce).expect("a fresh client takes it");
        for event in connection.iter() {
            match event.expect("the broker answers") {
                Event::Incoming(Incoming::SubAck(_)) => client.disconnect().expect("it takes that too"),
                Event::Outgoing(rumqttc::Outgoing::Disconnect) => break,
                _ => {}
            }
        }
        archive
    }

    /// What was published until there are `count` different payloads, in its order.
    pub fn read_until(&self, count: usize) -> Vec<String> {
        let (_client, mut connection) = self.connect();
        let (mut all, mut different) = (Vec::new(), BTreeSet::new());
        let until = Instant::now() + SOON;
        while different.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            match connection.recv_timeout(left) {
                Ok(Ok(Event::Incoming(Incoming::ConnAck(ack)))) => assert!(ack.session_present, "the session is gone"),
                Ok(Ok(Event::Incoming(Incoming::Publish(publish)))) => {
                    let payload = String::from_utf8(publish.payload.to_vec()).expect("a payload of text");
                    different.insert(payload.clone());
                    all.push(payload);
                }
                Ok(Ok(_)) => {}
                other => panic!("{} of {count} messages are archived; then {other:?}", different.len()),
            }
        }
        all
    }

    fn connect(&self) -> (Client, Connection) {
        let mut options = MqttOptions::new("archive", "127.0.0.1", self.port);
        options.set_clean_start(false).set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(3_600),
            max_packet_size: Some(1 << 20),
            ..ConnectProperties::new()
        });
        Client::new(options, 10)
    }
}
