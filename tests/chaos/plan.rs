//! What is to happen in a run: all of it follows from the seed, but for the time that things take.

use std::time::Duration;

use edge_outbox::QoS;
use edge_outbox::broker::Protocol;

use crate::chance::Chance;
use crate::fault::Fault;

/// Keys of messages, each with a topic of its own.
pub const KEYS: usize = 8;

/// How a run speaks MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub protocol: Protocol,
    pub qos: QoS,
}

impl Manner {
    pub const ALL: [Manner; 4] = [
        Manner { protocol: Protocol::V5, qos: QoS::AtLeastOnce },
        Manner { protocol: Protocol::V311, qos: QoS::AtLeastOnce },
        Manner { protocol: Protocol::V5, qos: QoS::ExactlyOnce },
        Manner { protocol: Protocol::V311, qos: QoS::ExactlyOnce },
    ];

    pub fn protocol_name(self) -> &'static str {
        match self.protocol {
            Protocol::V5 => "5",
            Protocol::V311 => "3.1.1",
        }
    }

    /// What CONNECT announces.
    pub fn level(self) -> u8 {
        match self.protocol {
            Protocol::V5 => 5,
            Protocol::V311 => 4,
        }
    }
}

/// One message. No two of a run are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub key: usize,
    pub payload: String,
}

impl Letter {
    pub fn topic(&self) -> String {
        topic(self.key)
    }

    /// As every witness tells of it.
    pub fn told(&self) -> String {
        format!("{} {}", self.topic(), self.payload)
    }
}

/// Where the messages of a key go.
pub fn topic(key: usize) -> String {
    format!("chaos/{key}")
}

/// One transaction.
pub struct Batch {
    pub letters: Vec<Letter>,
    pub commits: bool,
}

pub struct Plan {
    pub seed: u64,
    pub manner: Manner,
    /// The transactions, in their order.
    pub batches: Vec<Batch>,
    /// Each happens once so many messages were acknowledged.
    pub faults: Vec<(usize, Fault)>,
    pub window: usize,
    pub window_bytes: usize,
    pub settle_after: Duration,
    /// How far the program that writes may be ahead of the broker, in messages.
    pub ahead: usize,
}

impl Plan {
    /// `messages` are committed; those that are rolled back come on top.
    pub fn draw(seed: u64, manner: Manner, messages: usize, faults: usize) -> Self {
        let mut chance = Chance::seeded(seed);
        let batches = batches(&mut chance, messages);
        let faults = faults_of(&mut chance, manner, messages, faults);
        Plan {
            seed,
            manner,
            batches,
            faults,
            window: chance.pick(&[20, 64, 256]),
            // an acknowledgement that never comes is waited for a second longer with each of these KiB
            window_bytes: 1_024 * chance.pick(&[1, 2, 3]),
            settle_after: chance.ms(0..=100),
            ahead: chance.pick(&[300, 1_000, 5_000]),
        }
    }

    pub fn committed(&self) -> impl Iterator<Item = &Letter> {
        self.batches.iter().filter(|batch| batch.commits).flat_map(|batch| &batch.letters)
    }

    /// How many messages may be refused.
    pub fn refusals(&self) -> usize {
        let times = |(_, fault): &(usize, Fault)| if let Fault::Refuse { times, .. } = fault { *times } else { 0 };
        self.faults.iter().map(times).sum()
    }
}

fn batches(chance: &mut Chance, messages: usize) -> Vec<Batch> {
    let (mut batches, mut committed, mut number) = (Vec::new(), 0, 0);
    while committed < messages {
        let commits = !chance.one_in(8);
        let size = chance.of(1..=60).min(messages - committed);
        let letters = (number..number + size).map(|number| letter(chance, number)).collect();
        number += size;
        committed += if commits { size } else { 0 };
        batches.push(Batch { letters, commits });
    }
    batches
}

fn letter(chance: &mut Chance, number: usize) -> Letter {
    let key = chance.of(0..=KEYS - 1);
    // now and then one that fills the window, or goes alone
    let size = if chance.one_in(100) { chance.of(500..=2_500) } else { chance.of(0..=20) };
    let filler: String = (0..size).map(|_| chance.pick(&['a', 'b', 'c', 'd', 'ä', '€'])).collect();
    Letter { key, payload: format!("{number}:{filler}.") }
}

/// Dealt from a deck that holds each kind once, so that few faults are many kinds.
fn faults_of(chance: &mut Chance, manner: Manner, messages: usize, count: usize) -> Vec<(usize, Fault)> {
    let mut deck = Vec::new();
    // the last of them leaves messages enough to see what becomes of them
    let stretch = messages / (count + 1);
    let mut faults = Vec::new();
    for nth in 0..count {
        if deck.is_empty() {
            deck = Fault::deck(chance, manner.protocol);
        }
        let at = nth * stretch + chance.of(stretch / 4..=stretch);
        faults.extend(deck.pop().map(|fault| (at, fault)));
    }
    faults
}
