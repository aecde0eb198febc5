//! What reached a real mosquitto, told by a subscriber that shares no code with the outbox.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use crate::SOON;
use crate::mosquitto::{Mosquitto, Received, Subscriber};
use crate::workload::Reading;

/// Comes after everything that the broker has taken.
const MARK: &str = "biz/mark";

/// Everything that the workload sent, in the order in which it came.
pub struct Arrivals {
    port: u16,
    subscriber: Subscriber,
    pub readings: Vec<Reading>,
    /// What came and is not what the workload sends.
    pub damaged: Vec<String>,
}

impl Arrivals {
    pub fn at(broker: &Mosquitto) -> Self {
        Arrivals {
            port: broker.port(),
            subscriber: broker.subscribe("biz/#"),
            readings: Vec::new(),
            damaged: Vec::new(),
        }
    }

    /// Waits until all of these have come, or no more do.
    pub fn wait_for(&mut self, wanted: &BTreeSet<Reading>) {
        let mut missing: BTreeSet<Reading> = wanted.clone();
        for reading in &self.readings {
            missing.remove(reading);
        }
        while !missing.is_empty() {
            let Some(received) = self.subscriber.next(SOON) else { return };
            if let Some(reading) = self.take(&received) {
                missing.remove(&reading);
            }
        }
    }

    /// Takes in whatever else the broker has passed on by now, though nobody waits for it.
    pub fn catch_up(&mut self) {
        let mut mark = Command::new("mosquitto_pub");
        mark.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-t", MARK, "-n"]);
        assert!(mark.status().expect("mosquitto_pub starts").success(), "mosquitto_pub cannot publish");
        while let Some(received) = self.subscriber.next(SOON) {
            if received.topic == MARK {
                return;
            }
            self.take(&received);
        }
        self.damaged.push(format!("nobody knows what else arrived: the subscriber said nothing for {SOON:?}"));
    }

    /// Waits for one; false if none comes in time.
    pub fn next_within(&mut self, patience: Duration) -> bool {
        let Some(received) = self.subscriber.next(patience) else { return false };
        self.take(&received).is_some()
    }

    fn take(&mut self, received: &Received) -> Option<Reading> {
        match Reading::read(&received.topic, &received.payload) {
            Ok(reading) => {
                self.readings.push(reading);
                Some(reading)
            }
            Err(damaged) => {
                self.damaged.push(damaged);
                None
            }
        }
    }
}
