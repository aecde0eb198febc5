//! The adapter, driven as the forwarder drives it: against a real broker, and against scripted ones that misbehave.

#[cfg(feature = "tls")]
#[path = "../../../tests/support/authority.rs"]
pub(super) mod authority;
#[path = "../../../tests/support/mosquitto.rs"]
pub(super) mod mosquitto;

mod answers;
mod endings;
mod faults;
mod hostile;
mod keep_alive;
mod real;
mod scripted;
#[cfg(feature = "tls")]
mod tls;
mod v311;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::{Mqtt, MqttSettings};
use crate::broker::{Broker, Delivery, Down, Limits, Link, Receipt, Refusal};
use crate::forwarder::{Event, Mailbox, Outcome, Ticket};
use crate::{Message, MessageId, QoS};

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(port: u16) -> MqttSettings {
    MqttSettings { host: "127.0.0.1".to_owned(), port: Some(port), ..MqttSettings::default() }
}

fn qos(level: u8) -> Message {
    Message::text("t", "payload").with_qos(QoS::from_level(level).unwrap())
}

/// What the forwarder is to an adapter, without any wit.
struct Forwarder {
    broker: Mqtt,
    mailbox: Arc<Mailbox>,
    woken: Receiver<()>,
    session: u64,
    sending: u64,
    limits: Option<Limits>,
    outcomes: HashMap<i64, Vec<Outcome>>,
    settled: usize,
    unheard: usize,
    alive: usize,
    down: Option<Down>,
}

impl Forwarder {
    fn new(settings: MqttSettings) -> Self {
        let (mailbox, woken) = Mailbox::new();
        let broker = Mqtt::new(settings).unwrap();
        Forwarder {
            broker,
            mailbox,
            woken,
            session: 0,
            sending: 0,
            limits: None,
            outcomes: HashMap::new(),
            settled: 0,
            unheard: 0,
            alive: 0,
            down: None,
        }
    }

    /// A session that stands.
    fn up(settings: MqttSettings) -> Self {
        let mut forwarder = Self::new(settings);
        forwarder.connect();
        forwarder.wait("a session", |f| f.limits.is_some());
        forwarder
    }

    fn connect(&mut self) {
        self.session += 1;
        (self.limits, self.down) = (None, None);
        self.broker.connect(Link::new(self.session, Arc::clone(&self.mailbox)));
    }

    fn delivery(&mut self, row: i64, message: Message) -> Delivery {
        self.sending += 1;
        let receipt = Receipt::new(Ticket { row, sending: self.sending }, Arc::clone(&self.mailbox));
        Delivery::new(MessageId::new(row, 7), false, message, receipt)
    }

    fn send(&mut self, messages: impl IntoIterator<Item = (i64, Message)>) {
        let mut queue: VecDeque<_> = messages.into_iter().map(|(row, message)| self.delivery(row, message)).collect();
        self.broker.send(&mut queue);
        assert!(queue.is_empty(), "a session that stands takes what is within its limits");
    }

    /// Rows 1 to `count`, all alike.
    fn send_alike(&mut self, count: i64, message: &Message) {
        self.send((1..=count).map(|row| (row, message.clone())));
    }

    /// Reads what comes back until `enough`.
    fn wait(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Vec::new();
        loop {
            self.mailbox.take(&mut events);
            for event in events.drain(..) {
                match event {
                    Event::Settled(ticket, outcome) => {
                        self.settled += 1;
                        // the same for the row; that nobody was heard is counted
                        let (outcome, unheard) = match outcome {
                            Outcome::HandedOver => (Outcome::Acknowledged, 1),
                            Outcome::Withheld(refusal) => (Outcome::Refused(refusal), 1),
                            heard => (heard, 0),
                        };
                        self.unheard += unheard;
                        self.outcomes.entry(ticket.row).or_default().push(outcome);
                    }
                    Event::Up(session, limits) if session == self.session => self.limits = Some(limits),
                    Event::Alive(session) if session == self.session => self.alive += 1,
                    Event::Down(session, why) if session == self.session && self.down.is_none() => {
                        self.down = Some(why);
                    }
                    _ => {}
                }
            }
            if enough(self) {
                return;
            }
            let got = self.woken.recv_deadline(deadline);
            assert!(got.is_ok(), "waited for {what}; {} settled, down: {:?}", self.settled, self.down);
        }
    }

    fn wait_settled(&mut self, count: usize) {
        self.wait("outcomes", |f| f.settled >= count);
    }

    fn wait_down(&mut self) -> Down {
        self.wait("the session's end", |f| f.down.is_some());
        self.down.take().unwrap()
    }

    /// The last outcome of a row.
    fn outcome(&self, row: i64) -> &Outcome {
        self.outcomes.get(&row).and_then(|all| all.last()).unwrap_or_else(|| panic!("row {row} has no outcome"))
    }

    fn refusal(&self, row: i64) -> &Refusal {
        match self.outcome(row) {
            Outcome::Refused(refusal) => refusal,
            other => panic!("row {row} was not refused: {other:?}"),
        }
    }

    /// How many rows ended so.
    fn count(&self, outcome: &Outcome) -> usize {
        self.outcomes.values().filter(|all| all.last() == Some(outcome)).count()
    }
}

/// The whole chain of a [`Down`]'s texts.
fn words(down: &Down) -> String {
    let (Down::Unreachable(cause) | Down::Refused(cause)) = down else { return "recycled".to_owned() };
    let mut text = cause.to_string();
    let mut source = cause.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
