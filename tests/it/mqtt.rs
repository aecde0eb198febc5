//! The whole way, from a transaction to a real mosquitto.
//!
//! Between them stands a proxy, which is the network; what it saw pass is the truth where the broker itself is killed.

mod archive;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::Mqtt;
use edge_outbox::{Backoff, Error, LinkState, Message, Outbox, QoS, Settings, Status};
use tempfile::TempDir;

use self::archive::Archive;
use crate::mosquitto::{Mosquitto, Received, Subscriber};
use crate::proxy::{PUBACK, PUBCOMP, PUBREC, Proxy};

/// Far beyond what any of this takes, the slowest machine included.
const SOON: Duration = Duration::from_secs(60);

/// What happened: mosquitto is killed five times with messages in flight, and comes back with what it had on its disk.
/// What must hold: every message that the table calls SENT was acknowledged on the wire; a subscriber that was away all
/// the time finds every one; messages of a key were first sent, and first arrive, in the order of their commits.
///
/// mosquitto acknowledges before it writes down, so a kill alone would make *it* lose messages. The proxy makes it
/// honest: before a kill it lets no acknowledgement through until mosquitto has saved what it acknowledged so far.
#[test]
fn ten_thousand_messages_pass_five_kills_of_the_broker_and_none_is_missing() {
    const COUNT: usize = 10_000;
    const KEYS: usize = 10;
    const KILLS: usize = 5;
    let mut broker = Mosquitto::start_with(&["persistence true", "autosave_interval 0"]);
    let archive = Archive::subscribe(broker.port(), "kills/#");
    let proxy = Proxy::to(broker.port());
    let house = House::new(proxy.port(), Settings { settle_after: Duration::from_millis(100), ..quick() });
    let message = |n: usize| {
        // one QoS to a key: brokers pass QoS 2 on later than they take it
        let qos = if n % KEYS < 3 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        Message::text("kills/t", n.to_string()).with_key(format!("key{}", n % KEYS)).with_qos(qos)
    };
    for kill in 0..=KILLS {
        house.enqueue((kill * COUNT / (KILLS + 1)..(kill + 1) * COUNT / (KILLS + 1)).map(message));
        if kill == KILLS {
            break;
        }
        let some = kill * COUNT / (KILLS + 1) + 300;
        proxy.wait_for("messages on their way", |traffic| (traffic.accepted_count() >= some).then_some(()));
        proxy.hold_acks();
        broker.save();
        broker.kill();
        broker.restart();
        proxy.pass_acks();
    }
    house.flush();

    let all: BTreeSet<String> = (0..COUNT).map(|n| n.to_string()).collect();
    assert_eq!(house.rows("SENT"), COUNT);
    let traffic = proxy.traffic();
    assert!(traffic.connections > KILLS, "{traffic}");
    assert!(traffic.accepted().into_iter().eq(all.iter().map(String::as_str)), "{traffic}");
    assert_in_order(traffic.published.iter().map(|published| published.text()), KEYS);
    let repeated = traffic.published.len() - COUNT;
    assert!(repeated <= KILLS * house.outbox.settings().window, "{repeated} repeated: more than was in flight");

    let archived = archive.read_until(COUNT);
    assert!(archived.iter().collect::<BTreeSet<_>>().into_iter().eq(&all), "{} archived", archived.len());
    assert_in_order(archived.iter().map(String::as_str), KEYS);
}

/// Numbers that are equal modulo `keys` are of one key.
fn assert_in_order<'a>(payloads: impl Iterator<Item = &'a str>, keys: usize) {
    let mut newest: BTreeMap<usize, usize> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for number in payloads.map(|payload| payload.parse::<usize>().unwrap()) {
        if known.insert(number) {
            let before = newest.insert(number % keys, number);
            assert!(before.is_none_or(|before| before < number), "{number} came after {before:?}");
        }
    }
}

#[test]
fn a_connection_that_dies_without_a_word_is_given_up_and_what_it_swallowed_comes_again() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let proxy = Proxy::to(broker.port());
    let house = House::new(proxy.port(), quick());
    house.enqueue(numbered(0..10));
    house.flush();
    proxy.strand();
    house.enqueue(numbered(10..200));
    house.flush();
    until_all(&subscriber, 200);
    assert_eq!(house.rows("SENT"), 200);
}

#[test]
fn a_link_that_falls_silent_is_told_as_an_outage_and_the_backlog_goes_when_it_heals() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let proxy = Proxy::to(broker.port());
    let house = House::new(proxy.port(), quick());
    house.enqueue(numbered(0..10));
    house.flush();
    proxy.fall_silent();
    house.enqueue(numbered(10..200));
    house.wait_for("the outage", |status| matches!(status.link, LinkState::Offline { .. }));
    // and again, since nothing answers CONNECT either
    let connections = proxy.traffic().connections;
    proxy.wait_for("another try", |traffic| (traffic.connections > connections + 1).then_some(()));
    proxy.heal();
    house.flush();
    until_all(&subscriber, 200);
}

#[test]
fn an_idle_connection_that_dies_without_a_word_is_noticed_by_its_pings() {
    let broker = Mosquitto::start();
    let proxy = Proxy::to(broker.port());
    let house = House::new(proxy.port(), quick());
    house.wait_for("a session", |status| matches!(status.link, LinkState::Up));
    proxy.strand();
    proxy.wait_for("a new connection", |traffic| (traffic.connections == 2).then_some(()));
    house.enqueue(numbered(0..1));
    house.flush();
}

#[test]
fn no_row_is_sent_before_its_own_acknowledgement() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let broker = Mosquitto::start();
        let proxy = Proxy::to(broker.port());
        let house = House::new(proxy.port(), Settings { settle_after: Duration::ZERO, ack_timeout: SOON, ..quick() });
        proxy.hold_acks();
        house.enqueue(numbered(0..12).map(|message| message.with_qos(qos)));
        let first = if qos == QoS::ExactlyOnce { PUBREC } else { PUBACK };
        let answered = |kind: u8, count: usize| {
            proxy.wait_for("mosquitto's answers", |traffic| (traffic.answered(kind) == count).then_some(()));
        };
        answered(first, 12);
        let mut sent = BTreeSet::new();
        // the last of a window first, which no broker does; so nobody can have taken one for another
        for (turn, number) in [7, 11, 0, 3, 10, 1, 2, 9, 8, 4, 6, 5].into_iter().enumerate() {
            assert_eq!(house.sent(), sent, "before the acknowledgement of {number}");
            proxy.release(&number.to_string());
            if qos == QoS::ExactlyOnce {
                answered(PUBCOMP, turn + 1);
                assert_eq!(house.sent(), sent, "after PUBREC and before PUBCOMP of {number}");
                proxy.release(&number.to_string());
            }
            sent.insert(number);
            house.wait_for_sent(&sent);
        }
        house.flush();
    }
}

/// The answers to what came before such a message are lost with the connection, as they are where a broker closes with
/// something left to read.
#[test]
fn a_message_that_brokers_hang_up_on_is_found_among_neighbours_that_get_no_answer() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let proxy = Proxy::to(broker.port());
    proxy.hang_up_rudely_on("disliked");
    let house = House::new(proxy.port(), quick());
    let to = |n: usize| if n == 20 { "disliked" } else { "t" };
    house.enqueue((0..40).map(|n| Message::text(to(n), n.to_string()).with_key("a")));
    house.outbox.flush(SOON).unwrap();
    let failed = house.outbox.failed(0, 10).unwrap();
    assert_eq!(failed.iter().map(|failed| failed.topic.as_str()).collect::<Vec<_>>(), ["disliked"]);
    let received = until_all(&subscriber, 39);
    let payloads = received.iter().map(Received::text);
    assert_in_order(payloads, 1);
}

#[test]
fn a_link_that_breaks_again_and_again_parks_nothing() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let proxy = Proxy::to(broker.port());
    let house = House::new(proxy.port(), quick());
    house.enqueue(numbered(0..1_000));
    for break_at in (20..1_000).step_by(20) {
        proxy.wait_for("progress between breaks", |traffic| (traffic.accepted().len() >= break_at).then_some(()));
        // some are lost on their way, then the connection
        proxy.lose_publishes(3);
    }
    house.flush();
    assert_eq!(house.rows("SENT"), 1_000);
    let received = until_all(&subscriber, 1_000);
    assert_in_order(received.iter().map(Received::text), 1);
}

#[test]
fn every_quality_of_service_arrives_and_is_settled() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let house = House::new(broker.port(), quick());
    let of = |n: usize| QoS::from_level((n % 3) as u8).unwrap();
    house.enqueue((0..300).zip(numbered(0..300)).map(|(n, message)| message.with_qos(of(n))));
    house.flush();
    assert_eq!(house.rows("SENT"), 300);
    let received = subscriber.take(300);
    for level in 0..3 {
        let of_level = received.iter().filter(|received| received.qos == level as u8);
        let numbers: Vec<usize> = of_level.map(|received| received.text().parse().unwrap()).collect();
        assert_eq!(numbers, (0..300).filter(|n| n % 3 == level).collect::<Vec<_>>(), "QoS {level}");
    }
}

#[test]
fn the_wire_tells_the_name_of_a_message_and_whether_it_may_be_a_repetition() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let proxy = Proxy::to(broker.port());
    let house = House::new(proxy.port(), quick());
    // what is there when the forwarder starts may have been sent by the one before
    house.wait_for("a session", |status| matches!(status.link, LinkState::Up));
    let message = Message::text("t", "0").with_header("unit", "celsius").with_content_type("text/plain");
    let id = house.outbox.transaction(|tx| house.outbox.enqueue(tx, &message)).unwrap();
    house.flush();
    let first = &subscriber.take(1)[0];
    assert_eq!(first.properties, [pair("unit", "celsius"), pair("id", &id.to_string())]);
    assert_eq!(first.content_type.as_deref(), Some("text/plain"));

    proxy.lose_acks(1);
    let id = house.outbox.transaction(|tx| house.outbox.enqueue(tx, &Message::text("t", "1"))).unwrap();
    house.flush();
    let received = subscriber.take(2);
    assert_eq!(received[0].properties, [pair("id", &id.to_string())]);
    assert_eq!(received[1].properties, [pair("id", &id.to_string()), pair("duplicate", "maybe")]);
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_shutdown_holds_its_bound_while_the_broker_is_stalled_and_loses_nothing() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let proxy = Proxy::to(broker.port());
    let settings = Settings { ack_timeout: SOON, window_bytes: 64 << 20, ..quick() };
    let house = House::new(proxy.port(), settings);
    house.wait_for("a session", |status| matches!(status.link, LinkState::Up));
    proxy.fall_silent();
    // far more than the kernel's buffers take: the client stands in the middle of a write
    let large = |n: usize| Message::text("t", format!("{n:0>60000}"));
    house.enqueue((0..200).map(large));
    house.wait_until("messages in flight", |house| house.outbox.stats().unwrap().in_flight == 200);
    let begun = Instant::now();
    let (ended, dir) = house.shutdown(Duration::from_secs(1));
    let took = begun.elapsed();
    ended.unwrap();
    assert!(took < Duration::from_secs(2), "{took:?}");

    proxy.heal();
    let house = House::again(proxy.port(), quick(), dir);
    house.flush();
    let received = until_all(&subscriber, 200);
    assert!(received.iter().all(|received| received.payload.len() == 60_000));
    assert_eq!(house.rows("SENT"), 200);
}

#[test]
fn dropping_the_outbox_does_not_wait_for_a_stalled_broker() {
    let broker = Mosquitto::start();
    let proxy = Proxy::to(broker.port());
    let house = House::new(proxy.port(), quick());
    house.wait_for("a session", |status| matches!(status.link, LinkState::Up));
    proxy.fall_silent();
    house.enqueue(numbered(0..100));
    house.wait_until("messages in flight", |house| house.outbox.stats().unwrap().in_flight == 100);
    let begun = Instant::now();
    drop(house);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_broker_that_appears_after_the_program_gets_everything_without_a_restart() {
    let mut broker = Mosquitto::start_with(&["persistence true", "autosave_interval 0"]);
    let archive = Archive::subscribe(broker.port(), "#");
    broker.save();
    broker.kill();
    let house = House::new(broker.port(), quick());
    house.enqueue(numbered(0..500));
    house.wait_for("the outage", |status| matches!(status.link, LinkState::Offline { .. }));
    assert_eq!(house.rows("PENDING"), 500);
    broker.restart();
    house.flush();
    assert_eq!(house.rows("SENT"), 500);
    assert_eq!(archive.read_until(500), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_broker_that_takes_few_at_a_time_is_never_given_more() {
    let broker = Mosquitto::start_with(&["max_inflight_messages 20"]);
    let proxy = Proxy::to(broker.port());
    let house = House::new(proxy.port(), quick());
    house.enqueue(
        numbered(0..1_000)
            .zip(0..)
            .map(|(message, n)| message.with_qos(if n % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce })),
    );
    house.flush();
    let traffic = proxy.traffic();
    assert_eq!((traffic.connections, traffic.published.len()), (1, 1_000));
    assert!(traffic.peak <= 20, "{}", traffic.peak);
}

/// The backlog of the closed topic is larger than any window: what waits must not stand in the way of what may go.
#[test]
fn a_month_of_a_forbidden_topic_waits_for_the_access_list_and_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("acl"), "topic readwrite open/#\ntopic read shut/#\n").unwrap();
    let broker = Mosquitto::start_in(folder, &["acl_file acl"]);
    let subscriber = broker.subscribe("#");
    let house = House::new(broker.port(), quick());
    let to = |topic: &'static str, qos| (0..1_000).map(move |n| Message::text(topic, n.to_string()).with_qos(qos));
    house.enqueue(to("shut/1", QoS::AtLeastOnce).chain(to("shut/2", QoS::ExactlyOnce)));
    house.enqueue(to("open/1", QoS::AtLeastOnce));
    assert!(subscriber.take(1_000).iter().map(|received| received.text().parse::<usize>().unwrap()).eq(0..1_000));
    house.wait_for("both topics in the status", |status| {
        status.closed_topics.iter().map(|closed| closed.topic.as_str()).eq(["shut/1", "shut/2"])
    });
    house.wait_until("the rows that were sent", |house| house.rows("SENT") == 1_000);
    assert_eq!((house.rows("PENDING"), house.rows("FAILED")), (2_000, 0));
    assert_eq!(house.outbox.stats().unwrap().reconnects, 0);

    fs::write(broker.folder().join("acl"), "topic readwrite #\n").unwrap();
    broker.signal("HUP");
    house.flush();
    assert_eq!(house.rows("SENT"), 3_000);
    let received = subscriber.take(2_000);
    for topic in ["shut/1", "shut/2"] {
        let of_topic = received.iter().filter(|received| received.topic == topic);
        let numbers: BTreeSet<usize> = of_topic.map(|received| received.text().parse().unwrap()).collect();
        assert!(numbers.into_iter().eq(0..1_000), "{topic}");
    }
}

/// Everything up to when there are `count` different payloads.
#[track_caller]
fn until_all(subscriber: &Subscriber, count: usize) -> Vec<Received> {
    let (mut all, mut different) = (Vec::new(), BTreeSet::new());
    while different.len() < count {
        let Some(received) = subscriber.next(SOON) else { panic!("{} of {count} messages came", different.len()) };
        different.insert(received.payload.clone());
        all.push(received);
    }
    all
}

/// A program that uses an outbox.
struct House {
    outbox: Outbox,
    dir: TempDir,
}

impl House {
    fn new(port: u16, settings: Settings) -> Self {
        Self::again(port, settings, tempfile::tempdir().unwrap())
    }

    /// The program started again, on the database that is there.
    fn again(port: u16, settings: Settings, dir: TempDir) -> Self {
        let url = format!("mqtt://127.0.0.1:{port}?keep_alive=5s&connect_timeout=1s");
        let broker = Mqtt::from_url(&url).unwrap();
        let outbox = Outbox::builder(dir.path().join("house.db")).settings(settings).broker(broker).open().unwrap();
        House { outbox, dir }
    }

    fn enqueue(&self, messages: impl Iterator<Item = Message>) {
        self.outbox
            .transaction(|tx| -> Result<(), Error> {
                for message in messages {
                    self.outbox.enqueue(tx, &message)?;
                }
                Ok(())
            })
            .unwrap();
    }

    #[track_caller]
    fn flush(&self) {
        self.outbox.flush(SOON).unwrap_or_else(|error| panic!("{error}: {:?}", self.outbox));
        assert_eq!(self.outbox.failed(0, 10).unwrap(), []);
    }

    fn shutdown(self, patience: Duration) -> (Result<(), Error>, TempDir) {
        let House { outbox, dir } = self;
        (outbox.shutdown(patience), dir)
    }

    fn rows(&self, status: &str) -> usize {
        let count = "SELECT count(*) FROM outbox WHERE status = ?";
        self.outbox.connection().unwrap().query_row(count, [status], |row| row.get::<_, i64>(0)).unwrap() as usize
    }

    /// The payloads, which are numbers, of the rows that the table calls SENT.
    fn sent(&self) -> BTreeSet<usize> {
        let connection = self.outbox.connection().unwrap();
        let mut rows = connection.prepare_cached("SELECT payload FROM outbox WHERE status = 'SENT'").unwrap();
        let rows = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|payload| payload.unwrap().parse().unwrap()).collect()
    }

    #[track_caller]
    fn wait_for_sent(&self, expected: &BTreeSet<usize>) {
        self.wait_until("the row in the table", |house| house.sent().is_superset(expected));
        assert_eq!(&self.sent(), expected);
    }

    #[track_caller]
    fn wait_for(&self, what: &str, holds: impl Fn(&Status) -> bool) {
        self.wait_until(what, |house| holds(&house.outbox.status()));
    }

    #[track_caller]
    fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + SOON;
        while !holds(self) {
            assert!(Instant::now() < until, "not within {SOON:?}: {what}; it is {:?}", self.outbox);
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Settings that make waits short, so that no test has to sit through a default.
fn quick() -> Settings {
    let ms = Duration::from_millis;
    Settings {
        reconnect: Backoff { first: ms(5), longest: ms(50) },
        retry: Backoff { first: ms(5), longest: ms(50) },
        ack_timeout: Duration::from_secs(1),
        settle_after: ms(10),
        ..Settings::default()
    }
}

fn numbered(numbers: std::ops::Range<usize>) -> impl Iterator<Item = Message> {
    numbers.map(|number| Message::text("t", number.to_string()).with_key("a"))
}
