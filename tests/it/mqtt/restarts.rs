//! The broker ends, by itself or not, and comes back.

use std::collections::BTreeSet;
use std::env;
use std::time::Duration;

use edge_outbox::broker::Protocol;
use edge_outbox::{LinkState, Message, QoS, Settings};

use super::archive::Archive;
use super::{House, SOON, assert_in_order, at, numbered, quick};
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;

/// How many messages flow while the broker goes; another number can be had by the environment variable
/// `EDGE_OUTBOX_MESSAGES`.
const MESSAGES: usize = 40_000;
const KEYS: usize = 10;
const RESTARTS: usize = 5;

#[test]
fn messages_by_the_thousands_pass_restarts_of_the_broker_and_none_is_missing() {
    flow_through_restarts(Protocol::V5);
}

#[test]
fn messages_by_the_thousands_pass_restarts_of_the_broker_by_mqtt_3_1_1_and_none_is_missing() {
    flow_through_restarts(Protocol::V311);
}

/// What happened: mosquitto is killed and told to end by turns, with messages in flight, and comes back with what it
/// had on its disk. What must hold: every message that the table calls SENT was acknowledged on the wire; a subscriber
/// that was away all the time finds every one; messages of a key were first sent, and first arrive, in the order of
/// their commits.
///
/// mosquitto acknowledges before it writes down, so a kill alone would make *it* lose messages. The proxy makes it
/// honest: before a kill it lets no acknowledgement through until mosquitto has saved what it acknowledged so far.
fn flow_through_restarts(protocol: Protocol) {
    let count = env::var("EDGE_OUTBOX_MESSAGES").map_or(MESSAGES, |count| count.parse().expect("a number"));
    let part = |nth: usize| nth * count / (RESTARTS + 1)..(nth + 1) * count / (RESTARTS + 1);
    let mut broker = Mosquitto::start_with(&["persistence true", "autosave_interval 0"]);
    let archive = Archive::subscribe(broker.port(), "flow/#");
    let proxy = Proxy::to(broker.port());
    let settings = Settings { settle_after: Duration::from_millis(100), window: 1_000, ..quick() };
    let house = House::new(at(proxy.port()).with_protocol(protocol), settings);
    let message = |n: usize| {
        // one QoS to a key: brokers pass QoS 2 on later than they take it
        let qos = if n % KEYS < 3 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        Message::text("flow/t", n.to_string()).with_key(format!("key{}", n % KEYS)).with_qos(qos)
    };
    for nth in 0..RESTARTS {
        house.enqueue(part(nth).map(message));
        let some = part(nth).start + 300;
        proxy.wait_for("messages on their way", |traffic| (traffic.accepted_count() >= some).then_some(()));
        if nth % 2 == 0 {
            proxy.hold_acks();
            broker.save();
            broker.kill();
        } else {
            broker.end();
        }
        broker.restart();
        proxy.pass_acks();
    }
    house.enqueue(part(RESTARTS).map(message));
    house.flush_within(SOON + Duration::from_millis(count as u64));

    let all: BTreeSet<String> = (0..count).map(|n| n.to_string()).collect();
    assert_eq!(house.rows("SENT"), count);
    let traffic = proxy.traffic();
    assert!(traffic.connections > RESTARTS, "{traffic}");
    assert!(traffic.accepted().into_iter().eq(all.iter().map(String::as_str)), "{traffic}");
    assert_in_order(traffic.published.iter().map(|published| published.text()), KEYS);
    let repeated = traffic.published.len() - count;
    assert!(repeated <= RESTARTS * house.outbox.settings().window, "{repeated} repeated: more than was in flight");

    let archived = archive.read_until(count);
    assert!(archived.iter().collect::<BTreeSet<_>>().into_iter().eq(&all), "{} archived", archived.len());
    assert_in_order(archived.iter().map(String::as_str), KEYS);
}

#[test]
fn a_broker_that_appears_after_the_program_gets_everything_without_a_restart() {
    let mut broker = Mosquitto::start_with(&["persistence true", "autosave_interval 0"]);
    let archive = Archive::subscribe(broker.port(), "#");
    broker.save();
    broker.kill();
    let house = House::new(at(broker.port()), quick());
    house.enqueue(numbered(0..500));
    house.wait_for("the outage", |status| matches!(status.link, LinkState::Offline { .. }));
    assert_eq!(house.rows("PENDING"), 500);
    broker.restart();
    house.flush();
    assert_eq!(house.rows("SENT"), 500);
    assert_eq!(archive.read_until(500), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}
