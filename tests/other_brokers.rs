//! The whole way, from a transaction to a real broker that is not mosquitto: nats-server, which speaks MQTT 3.1.1.
//!
//! `scripts/test-other-brokers` installs it and runs this alone. Where it is not installed every test passes, and says
//! that it was skipped.

#[path = "support/device.rs"]
mod device;
#[path = "support/nats.rs"]
mod nats;

use std::collections::BTreeSet;
use std::time::Duration;

use edge_outbox::broker::{Mqtt, MqttSettings, Protocol};
use edge_outbox::{LinkState, Message, Outbox, QoS};

use self::device::{Device, SOON, enqueue, eventually, value, wait_for_stats};
use self::nats::{Archive, Archived, Nats};

#[test]
fn five_thousand_messages_arrive_at_nats_intact_and_in_order() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::subscribe(nats.port(), &["reading/#"], &[]);
    let (device, messages) = (Device::new(), messages(0..5_000));
    let outbox = device.open(to(&nats));
    enqueue(&outbox, messages.clone());
    flush(&outbox);
    assert_eq!(sent(&device), 5_000);
    assert_holds(archive.read_until(5_000), &messages);
}

/// What must hold: every message that the table calls SENT is there when the broker comes back, and in its order.
#[test]
fn five_thousand_messages_pass_three_kills_of_nats_and_none_is_missing() {
    const PART: usize = 1_250;
    let Some(mut nats) = Nats::start() else { return };
    let archive = Archive::subscribe(nats.port(), &["reading/#"], &[]);
    let (device, messages) = (Device::new(), messages(0..4 * PART));
    let outbox = device.open(to(&nats));
    for (part, messages) in messages.chunks(PART).enumerate() {
        enqueue(&outbox, messages.to_vec());
        if part < 3 {
            let some = (part * PART + 200) as u64;
            wait_for_stats(&outbox, "some to be settled", |stats| stats.sent >= some);
            nats.restart();
        }
    }
    flush(&outbox);
    assert_eq!(sent(&device), 4 * PART);
    assert!(outbox.stats().unwrap().reconnects >= 3);
    assert_holds(archive.read_until(4 * PART), &messages);
}

#[test]
fn a_broker_that_knows_no_mqtt_5_is_told_as_one_with_what_to_set_and_nothing_is_charged() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::subscribe(nats.port(), &["reading/#"], &[]);
    let (device, messages) = (Device::new(), messages(0..10));
    let outbox = device.open(Mqtt::new(settings(&nats).with_protocol(Protocol::V5)).unwrap());
    enqueue(&outbox, messages.clone());
    assert_eq!(refusal(&outbox), "the broker does not speak MQTT 5: set protocol to 3.1.1");
    outbox.shutdown(SOON).unwrap();
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE attempts = 0", []), 10);

    let outbox = device.open(to(&nats));
    flush(&outbox);
    assert_holds(archive.read_until(10), &messages);
}

/// nats-server 2.9 hangs up on QoS 2, and on a topic with a dot or a space, without a word: MQTT 3.1.1 has none.
#[test]
fn what_nats_hangs_up_on_is_parked_and_its_neighbours_arrive() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::subscribe(nats.port(), &["reading/#"], &[]);
    let device = Device::new();
    let outbox = device.open(to(&nats));
    let neighbours = messages(0..100);
    let (before, behind) = neighbours.split_at(50);
    let disliked = [Message::text("qos/2", "2").with_qos(QoS::ExactlyOnce), Message::text("a.b", ".")];
    enqueue(&outbox, before.iter().chain(&disliked).chain(behind).cloned());
    flush_all(&outbox);
    let failed = outbox.failed(0, 10).unwrap();
    assert_eq!(failed.iter().map(|failed| failed.topic.as_str()).collect::<Vec<_>>(), ["qos/2", "a.b"]);
    assert!(failed.iter().all(|failed| failed.reason.contains("ended the session")), "{failed:?}");
    assert_holds(archive.read_until(100), &neighbours);
}

/// What README tells those to do who find their backlog full of QoS 2 for a broker that has none: more than can be set
/// aside, so nothing else gets past it.
#[test]
fn a_backlog_of_qos_2_goes_once_the_table_says_qos_1() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::subscribe(nats.port(), &["reading/#"], &[]);
    let (device, messages) = (Device::new(), messages(0..100));
    let outbox = device.open(to(&nats));
    enqueue(&outbox, messages[..50].iter().map(|message| message.clone().with_qos(QoS::ExactlyOnce)));
    enqueue(&outbox, messages[50..].iter().cloned());
    wait_for_stats(&outbox, "sessions that ended", |stats| stats.reconnects >= 10);
    assert_eq!(sent(&device), 0);
    device.sql().execute(&readme_sql(), []).unwrap();
    flush(&outbox);
    // those that were set aside come late
    let mut archived = archive.read_until(100);
    archived.sort_by(|one, other| one.payload.cmp(&other.payload));
    assert_holds(archived, &messages);
}

/// The statement that README gives for it.
fn readme_sql() -> String {
    let readme = include_str!("../README.md");
    let statement = readme.lines().find(|line| line.starts_with("UPDATE outbox SET qos = 1"));
    statement.expect("README has it").to_owned()
}

/// NATS has levels, wildcards and names of its own; nothing of that may swallow what it acknowledges.
#[test]
fn topics_that_mean_something_to_nats_arrive_as_they_are() {
    let topics = ["/a", "/", "$a", "odd/a/", "odd//b", "odd/a*b", "odd/*", "odd/*/b", "odd/>", "odd/ä☃", "odd/a:b,c;d"];
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::subscribe(nats.port(), &["/#", "$a", "odd/#"], &[]);
    let device = Device::new();
    let outbox = device.open(to(&nats));
    let messages: Vec<_> = topics.into_iter().map(|topic| Message::text(topic, topic)).collect();
    enqueue(&outbox, messages.clone());
    flush(&outbox);
    // each filter is a queue of its own there, so there is no order between them
    let mut archived = archive.read_until(topics.len());
    archived.sort_by_key(|one| topics.iter().position(|topic| *topic == one.topic));
    assert_holds(archived, &messages);
}

/// Where at-least-once ends, so that README tells the truth about it: MQTT 3.1.1 has no word for "not authorised", and
/// this broker acknowledges and throws away.
#[test]
fn what_nats_acknowledges_and_throws_away_counts_as_sent() {
    let users = "authorization { users: [ { user: u, password: p, permissions: { publish: { deny: \"shut.>\" } } } ] }";
    let Some(nats) = Nats::start_with(users) else { return };
    let archive = Archive::subscribe(nats.port(), &["open", "shut/#"], &["-u", "u", "-P", "p"]);
    let device = Device::new();
    let outbox = device.open(Mqtt::new(settings(&nats).with_user("u").with_password("p")).unwrap());
    let open = Message::text("open", "1");
    enqueue(&outbox, [Message::text("shut/1", "1"), open.clone()]);
    flush(&outbox);
    assert_eq!(sent(&device), 2);
    assert_holds(archive.read_until(1), &[open]);
}

#[cfg(feature = "tls")]
mod tls {
    use edge_outbox::broker::TlsSettings;

    use super::authority::{Authority, Leaf};
    use super::*;

    #[test]
    fn nats_with_tls_and_passwords_takes_the_right_one_and_refuses_the_wrong_one_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("authority");
        let ca_file = authority.write_ca(folder.path());
        authority.issue(Leaf::server(["127.0.0.1"]), folder.path());
        let tls = "tls { cert_file: server.pem, key_file: server.key }";
        let Some(nats) = Nats::start_in(folder, tls, "authorization { user: station, password: spring }") else {
            return;
        };
        let ca = ca_file.to_str().unwrap();
        let archive =
            Archive::subscribe(nats.port(), &["reading/#"], &["-u", "station", "-P", "spring", "--cafile", ca]);
        let with = |password: &str| {
            let tls = TlsSettings::new().with_ca_file(&ca_file);
            Mqtt::new(settings(&nats).with_user("station").with_password(password).with_tls(tls)).unwrap()
        };
        let (device, messages) = (Device::new(), messages(0..10));
        let outbox = device.open(with("summer"));
        enqueue(&outbox, messages.clone());
        let why = refusal(&outbox);
        assert_eq!(why, "the broker does not allow this client to connect (user, password, client id?)");
        outbox.shutdown(SOON).unwrap();

        let outbox = device.open(with("spring"));
        flush(&outbox);
        assert_holds(archive.read_until(10), &messages);
    }
}

#[cfg(feature = "tls")]
#[path = "support/authority.rs"]
mod authority;

fn settings(nats: &Nats) -> MqttSettings {
    MqttSettings::new("127.0.0.1").with_port(nats.port()).with_protocol(Protocol::V311)
}

fn to(nats: &Nats) -> Mqtt {
    Mqtt::new(settings(nats)).unwrap()
}

/// Numbered, of one key and three topics, up to 2 kB of all bytes that there are.
fn messages(numbers: std::ops::Range<usize>) -> Vec<Message> {
    let message = |n: usize| {
        let more = (0..n * 7 % 2_000).map(|nth| (n + nth) as u8);
        let payload: Vec<u8> = n.to_be_bytes().into_iter().chain(more).collect();
        Message::new(format!("reading/{}", n % 3), payload).with_key("a")
    };
    numbers.map(message).collect()
}

/// The archive holds these and no others, and in this order but for what came again.
#[track_caller]
fn assert_holds(archived: Vec<Archived>, messages: &[Message]) {
    let mut known = BTreeSet::new();
    let firsts = archived.into_iter().filter(|one| known.insert(one.clone()));
    for (archived, message) in firsts.zip(messages) {
        assert_eq!(archived, Archived::new(&message.topic, message.payload.as_bytes()));
    }
    assert_eq!(known.len(), messages.len());
}

/// The broker's refusal of the session in the words of the status, once there is one.
#[track_caller]
fn refusal(outbox: &Outbox) -> String {
    let mut words = String::new();
    eventually("a session that is refused", || match outbox.status().link {
        LinkState::Refused { why, .. } => {
            words = why;
            true
        }
        _ => false,
    });
    words
}

fn sent(device: &Device) -> usize {
    value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []) as usize
}

#[track_caller]
fn flush(outbox: &Outbox) {
    flush_all(outbox);
    assert_eq!(outbox.failed(0, 10).unwrap(), []);
}

#[track_caller]
fn flush_all(outbox: &Outbox) {
    outbox.flush(Duration::from_secs(600)).unwrap_or_else(|error| panic!("{error}: {outbox:?}"));
}
