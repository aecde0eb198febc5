//! What reached a real mosquitto, told by a subscriber that shares no code with the outbox.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

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
        let reading = intact(received);
        match reading {
            Some(reading) => self.readings.push(reading),
            None => {
                let payload = String::from_utf8_lossy(&received.payload);
                self.damaged.push(format!("{} with {payload:?} arrived, which was never written so", received.topic));
            }
        }
        reading
    }
}

/// The reading that it tells of, if it is whole and on its topic.
fn intact(received: &Received) -> Option<Reading> {
    #[derive(Deserialize)]
    struct Payload {
        id: i64,
        k: i64,
        seq: i64,
        crc: u32,
    }
    let Payload { id, k, seq, crc } = serde_json::from_slice(&received.payload).ok()?;
    let right = crc == crc32fast::hash(format!("{id} {k} {seq}").as_bytes()) && received.topic == format!("biz/{k}");
    right.then_some(Reading { id, k, seq })
}
