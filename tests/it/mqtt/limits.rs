//! What the broker takes, and how much of it at a time.

use edge_outbox::broker::Protocol;
use edge_outbox::{Message, QoS};

use super::{House, SOON, assert_in_order, at, numbered, quick, until_all};
use crate::mosquitto::{Mosquitto, Received};
use crate::proxy::Proxy;

/// With QoS 2 a message counts until PUBCOMP: a client that forgot it at PUBREC would have more in flight than it may.
#[test]
fn a_broker_that_takes_few_at_a_time_is_never_given_more() {
    let mixed: fn(usize) -> QoS = |n| if n % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
    for qos in [mixed, |_| QoS::ExactlyOnce] {
        let broker = Mosquitto::start_with(&["max_inflight_messages 20"]);
        let proxy = Proxy::to(broker.port());
        let house = House::new(at(proxy.port()), quick());
        house.enqueue(numbered(0..1_000).zip(0..).map(|(message, n)| message.with_qos(qos(n))));
        house.flush();
        let traffic = proxy.traffic();
        assert_eq!((traffic.connections, traffic.published.len()), (1, 1_000));
        assert!((2..=20).contains(&traffic.peak), "{}", traffic.peak);
    }
}

const TOO_LARGE: usize = 20;

/// Messages of one key, of which one is above a limit of 1,000 bytes.
fn one_too_large(qos: QoS) -> impl Iterator<Item = Message> {
    let text = |n: usize| if n == TOO_LARGE { format!("{n:0>2000}") } else { n.to_string() };
    (0..40).map(move |n| Message::text("t", text(n)).with_key("a").with_qos(qos))
}

/// Everything but that one message is sent, in order, and it is parked; says why.
#[track_caller]
fn settles_but_the_large_one(house: &House) -> String {
    house.outbox.flush(10 * SOON).unwrap(); // a stall of the machine makes the controls 160 times as long
    let failed = house.outbox.failed(0, 10).unwrap();
    assert_eq!(failed.iter().map(|failed| failed.id.row()).collect::<Vec<_>>(), [TOO_LARGE as i64 + 1]);
    assert_eq!(house.rows("SENT"), 39);
    failed[0].reason.clone()
}

#[test]
fn a_message_above_the_announced_packet_size_is_parked_unsent_and_the_session_lives_on() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let broker = Mosquitto::start_with(&["max_packet_size 1000"]);
        let subscriber = broker.subscribe("#");
        let proxy = Proxy::to(broker.port());
        let house = House::new(at(proxy.port()), quick());
        house.enqueue(one_too_large(qos));
        let reason = settles_but_the_large_one(&house);
        assert!(reason.contains("1000"), "{reason}");
        assert_in_order(until_all(&subscriber, 39).iter().map(Received::text), 1);
        let traffic = proxy.traffic();
        assert_eq!((traffic.connections, traffic.published.len()), (1, 39));
    }
}

/// A broker of MQTT 3.1.1 has no way to announce a limit: mosquitto hangs up on the message without a word.
#[test]
fn a_message_above_the_packet_size_that_mqtt_3_1_1_cannot_announce_is_found_and_parked() {
    let broker = Mosquitto::start_with(&["max_packet_size 1000"]);
    let subscriber = broker.subscribe("#");
    let house = House::new(at(broker.port()).with_protocol(Protocol::V311), quick());
    house.enqueue(one_too_large(QoS::AtLeastOnce));
    let reason = settles_but_the_large_one(&house);
    assert!(reason.contains("ended the session"), "{reason}");
    assert_in_order(until_all(&subscriber, 39).iter().map(Received::text), 1);
}
