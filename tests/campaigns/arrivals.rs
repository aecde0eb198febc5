//! What reached a real mosquitto, told by a subscriber that shares no code with the outbox.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::SOON;
use crate::mosquitto::{Mosquitto, Received, Subscriber};
use crate::workload::Reading;

/// Everything that the workload sent, in the order in which it came.
pub struct Arrivals {
    subscriber: Subscriber,
    pub readings: Vec<Reading>,
    /// What came and is not what the workload sends.
    pub damaged: Vec<String>,
}

impl Arrivals {
    pub fn at(broker: &Mosquitto) -> Self {
        Arrivals { subscriber: broker.subscribe("biz/#"), readings: Vec::new(), damaged: Vec::new() }
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
