//! Brokers that just hang up: what they hang up on is found and parked, and nothing else ever is.
//!
//! The broker is scripted. Each test says how its sessions end; what must hold is the same in all of them: the messages
//! that are to blame, and only those, stand as FAILED, everything else as SENT, and for each of these the broker wrote
//! its last acknowledgement to the socket.

mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use edge_outbox::broker::{Mqtt, MqttSettings, Protocol};
use edge_outbox::{Message, Ordering, Outbox, QoS, Settings};

use crate::device::{Device, enqueue, quick};
use crate::scripted::{Cut, Manner, Published, Reaction, Record, Script, Scripted};

/// Far beyond what any of this takes. A machine that stands still for a moment while a session ends makes the controls
/// behind it up to 160 times as long as that.
const LONG: Duration = Duration::from_secs(600);
const PROTOCOLS: [Protocol; 2] = [Protocol::V5, Protocol::V311];
const KEYS: usize = 4;
const POISON: &str = "disliked";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Plays the cases at the same time, since most of their time is waiting.
fn at_the_same_time<T: Send>(cases: impl IntoIterator<Item = T>, play: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| play(case));
        }
    });
}

/// Every protocol with each of these.
fn with_protocols<T: Clone>(cases: impl IntoIterator<Item = T>) -> Vec<(Protocol, T)> {
    cases.into_iter().flat_map(|case| PROTOCOLS.map(|protocol| (protocol, case.clone()))).collect()
}

fn cuts_on_poison(cut: Cut) -> Box<dyn FnMut(&Published) -> Reaction + Send> {
    Box::new(move |published| if published.topic == POISON { Reaction::Cut(cut) } else { Reaction::Take })
}

/// A program with an outbox, and the broker that it meets.
struct House {
    outbox: Outbox,
    broker: Scripted,
    device: Device,
}

impl House {
    fn new(protocol: Protocol, settings: Settings, script: Script) -> Self {
        let (broker, device) = (Scripted::start(script), Device::new());
        let client = MqttSettings::new("127.0.0.1")
            .with_port(broker.port())
            .with_protocol(protocol)
            .with_connect_timeout(Duration::from_secs(30));
        let outbox = device.open_with(settings, Mqtt::new(client).unwrap());
        House { outbox, broker, device }
    }

    fn enqueue(&self, messages: impl IntoIterator<Item = Message>) {
        enqueue(&self.outbox, messages);
    }

    /// Waits until everything is settled, and checks that of the messages `0..count` exactly the guilty are parked.
    #[track_caller]
    fn settles(&self, count: usize, guilty: &[usize]) -> Record {
        self.outbox.flush(LONG).unwrap_or_else(|error| panic!("{error}: {:?}", self.outbox));
        for failed in self.outbox.failed(0, 100).unwrap() {
            assert!(failed.reason.contains("ended the session"), "{}", failed.reason);
        }
        let names = |numbers: &mut dyn Iterator<Item = usize>| numbers.map(|n| n.to_string()).collect::<BTreeSet<_>>();
        let innocent = names(&mut (0..count).filter(|n| !guilty.contains(n)));
        assert_eq!(self.rows("FAILED"), names(&mut guilty.iter().copied()));
        assert_eq!(self.rows("SENT"), innocent);
        let record = self.broker.record();
        let acknowledged: BTreeSet<&String> = record.acknowledged.iter().collect();
        assert!(acknowledged.into_iter().eq(&innocent), "SENT without an acknowledgement, or the other way round");
        record
    }

    /// The names of the messages that have this status in the table.
    fn rows(&self, status: &str) -> BTreeSet<String> {
        let sql = self.device.sql();
        let mut rows = sql.prepare("SELECT CAST(payload AS TEXT) FROM outbox WHERE status = ?").unwrap();
        let payloads = rows.query_map([status], |row| row.get::<_, String>(0)).unwrap();
        payloads.map(|payload| payload.unwrap().split_whitespace().next().unwrap().to_owned()).collect()
    }
}

/// Messages of [`KEYS`] keys, with QoS 1 and 2; the guilty go to a topic that the broker hangs up on.
fn messages(count: usize, guilty: &[usize]) -> impl Iterator<Item = Message> {
    (0..count).map(move |n| {
        let topic = if guilty.contains(&n) { POISON } else { "plain" };
        let qos = if n % KEYS < 2 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        Message::text(topic, n.to_string()).with_key(format!("key{}", n % KEYS)).with_qos(qos)
    })
}

/// Messages of a key first arrived in the order of their commits.
#[track_caller]
fn assert_in_order(record: &Record) {
    let (mut known, mut newest) = (BTreeSet::new(), BTreeMap::new());
    for number in record.published.iter().map(|published| published.name.parse::<usize>().unwrap()) {
        if known.insert(number) {
            let before = newest.insert(number % KEYS, number);
            assert!(before.is_none_or(|before| before < number), "{number} came after {before:?}");
        }
    }
}

#[test]
fn a_message_that_the_broker_hangs_up_on_at_once_is_parked_and_nothing_else() {
    at_the_same_time(with_protocols([Manner::Polite, Manner::Reset]), |(protocol, manner)| {
        let script = Script { judge: cuts_on_poison(Cut::at_once(manner)), ..Script::default() };
        let house = House::new(protocol, quick(), script);
        house.enqueue(messages(60, &[20]));
        assert_in_order(&house.settles(60, &[20]));
    });
}

#[test]
fn a_message_that_the_broker_hangs_up_on_late_is_found_though_younger_ones_were_acknowledged() {
    at_the_same_time(with_protocols([Manner::Polite, Manner::Mute]), |(protocol, manner)| {
        let late = Cut { younger: 5, within: ms(20), manner };
        let house = House::new(protocol, quick(), Script { judge: cuts_on_poison(late), ..Script::default() });
        house.enqueue(messages(200, &[20]));
        assert_in_order(&house.settles(200, &[20]));
    });
}

/// All that are in flight before it look just as guilty.
#[test]
fn a_message_that_the_broker_hangs_up_on_is_found_among_neighbours_whose_answers_are_lost() {
    at_the_same_time(with_protocols([Manner::Mute, Manner::Reset]), |(protocol, manner)| {
        let judge = cuts_on_poison(Cut::at_once(manner));
        let house = House::new(protocol, quick(), Script { judge, latency: ms(10), ..Script::default() });
        house.enqueue(messages(100, &[40]));
        assert_in_order(&house.settles(100, &[40]));
    });
}

/// The control is a session that answers pings.
#[test]
fn a_message_that_the_broker_hangs_up_on_is_found_where_it_is_the_only_one() {
    at_the_same_time(PROTOCOLS, |protocol| {
        let judge = cuts_on_poison(Cut::at_once(Manner::Mute));
        let house = House::new(protocol, quick(), Script { judge, ..Script::default() });
        house.enqueue(messages(1, &[0]));
        let record = house.settles(1, &[0]);
        assert!(record.pings > 0, "nothing showed that the sessions between the trials lived");
    });
}

#[test]
fn two_messages_that_the_broker_hangs_up_on_are_found_however_far_apart() {
    at_the_same_time(PROTOCOLS, |protocol| {
        let judge = cuts_on_poison(Cut::at_once(Manner::Mute));
        let house = House::new(protocol, quick(), Script { judge, ..Script::default() });
        house.enqueue(messages(1_000, &[10, 903]));
        assert_in_order(&house.settles(1_000, &[10, 903]));
    });
}

#[test]
fn each_message_to_a_topic_that_the_broker_hangs_up_on_is_judged_and_the_rest_flows() {
    at_the_same_time(PROTOCOLS, |protocol| {
        let judge = cuts_on_poison(Cut::at_once(Manner::Mute));
        let house = House::new(protocol, quick(), Script { judge, ..Script::default() });
        house.enqueue(messages(60, &[5, 6, 30]));
        let record = house.settles(60, &[5, 6, 30]);
        assert_in_order(&record);
        assert!(record.last(POISON) > record.first("59"), "the rest waited for the verdicts");
    });
}

#[test]
fn strict_order_holds_the_key_of_a_suspect_and_no_other_until_it_is_parked() {
    at_the_same_time(PROTOCOLS, |protocol| {
        let judge = cuts_on_poison(Cut::at_once(Manner::Mute));
        let settings = Settings { ordering: Ordering::Strict, ..quick() };
        let house = House::new(protocol, settings, Script { judge, ..Script::default() });
        house.enqueue(messages(40, &[8]));
        let record = house.settles(40, &[8]);
        assert_in_order(&record);
        assert!(record.last(POISON) > record.first("39"), "other keys waited for the verdict");
        assert!(record.last(POISON) < record.first("12"), "12 was sent while it was open what becomes of 8");
    });
}

/// With the settings as they come: the waits between sessions grow to a minute there, and each of these messages takes
/// several sessions to be set aside.
#[test]
fn messages_that_the_broker_hangs_up_on_do_not_hold_up_what_stands_behind_them() {
    at_the_same_time(PROTOCOLS, |protocol| {
        let script = Script { judge: cuts_on_poison(Cut::at_once(Manner::Polite)), ..Script::default() };
        let house = House::new(protocol, Settings::default(), script);
        house.enqueue(messages(30, &[0, 1, 2, 3, 4]));
        house.broker.wait_for("the innocent", |record| record.acknowledged.len() >= 25);
        assert_eq!(house.outbox.stats().unwrap().failed, 0, "nobody waited for the verdict");
    });
}
