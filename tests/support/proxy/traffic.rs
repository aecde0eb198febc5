//! What the proxy has carried.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::PUBREC;

/// One PUBLISH that the client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The first connection is 1.
    pub connection: usize,
    pub topic: String,
    pub qos: u8,
    /// 0 with QoS 0.
    pub packet_id: u16,
    pub payload: Vec<u8>,
}

impl Published {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("a payload of text")
    }
}

/// What was carried, in its order.
#[derive(Clone, Default)]
pub struct Traffic {
    /// Connections so far.
    pub connections: usize,
    /// The protocol levels that they announced: 5, or 4 for MQTT 3.1.1.
    pub levels: BTreeSet<u8>,
    /// What the client sent, whether it arrived or not.
    pub published: Vec<Published>,
    /// Which of these the broker has accepted for good, and the client been told so: PUBACK or PUBCOMP went on.
    acknowledged: BTreeSet<usize>,
    /// Which of these the broker has answered, and with which kind of packet, whether that went on or not.
    answered: BTreeSet<(usize, u8)>,
    /// Which of these were refused here, or lost their PUBREC: they arrive behind what was sent after them.
    delayed: BTreeSet<usize>,
    /// How often anything was done to a connection, a message or an acknowledgement but to carry it.
    pub effects: usize,
    /// The most that was unanswered at a time within a connection.
    pub peak: usize,
    /// By connection and packet id.
    open: BTreeMap<(usize, u16), usize>,
}

impl Traffic {
    /// What went through for good, by payload.
    pub fn accepted(&self) -> BTreeSet<&str> {
        self.acknowledged.iter().map(|of| self.published[*of].text()).collect()
    }

    /// Every PUBLISH that went through for good, repetitions included.
    pub fn acknowledged(&self) -> impl Iterator<Item = &Published> {
        self.acknowledged.iter().map(|of| &self.published[*of])
    }

    /// Every PUBLISH that was refused here or lost its PUBREC, which no stream of bytes does to one in the middle: the
    /// broker passes it on behind what was sent after it.
    pub fn delayed(&self) -> impl Iterator<Item = &Published> {
        self.delayed.iter().map(|of| &self.published[*of])
    }

    /// How many PUBLISH went through for good, repetitions included.
    pub fn accepted_count(&self) -> usize {
        self.acknowledged.len()
    }

    /// How many the broker has answered with this kind of packet, whether that went on or not.
    pub fn answered(&self, kind: u8) -> usize {
        self.answered.iter().filter(|(_, k)| *k == kind).count()
    }

    pub(super) fn publish(&mut self, published: Published) -> usize {
        let of = self.published.len();
        if published.qos > 0 {
            self.open.insert((published.connection, published.packet_id), of);
            self.peak = self.peak.max(self.unanswered(published.connection));
        }
        self.published.push(published);
        of
    }

    /// Messages above QoS 0 of a connection that the client has no last word about.
    pub(super) fn unanswered(&self, connection: usize) -> usize {
        self.open.range((connection, 0)..=(connection, u16::MAX)).count()
    }

    /// Which message a packet id stands for now.
    pub(super) fn open(&self, connection: usize, packet_id: u16) -> Option<usize> {
        self.open.get(&(connection, packet_id)).copied()
    }

    pub(super) fn arrived(&mut self, of: usize, kind: u8) {
        self.answered.insert((of, kind));
    }

    pub(super) fn delay(&mut self, of: usize) {
        self.delayed.insert(of);
    }

    /// An answer goes on to the client.
    pub(super) fn answer(&mut self, of: usize, kind: u8, reason: u8) {
        let refused = reason >= 0x80;
        if kind == PUBREC && !refused {
            return;
        }
        let Published { connection, packet_id, .. } = self.published[of];
        self.open.remove(&(connection, packet_id));
        if !refused {
            self.acknowledged.insert(of);
        }
    }

    pub(super) fn end(&mut self, connection: usize) {
        self.open.retain(|(of, _), _| *of != connection);
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traffic { connections, published, acknowledged, .. } = self;
        write!(f, "{connections} connections, {} PUBLISH, {} acknowledged", published.len(), acknowledged.len())
    }
}
