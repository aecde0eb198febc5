//! What the broker's answers make of a row.

use std::collections::BTreeSet;
use std::time::Duration;

use edge_outbox::{Message, QoS, Settings};

use super::{House, PROTOCOLS, SOON, assert_in_order, at, numbered, quick, until_all};
use crate::mosquitto::{Mosquitto, Received};
use crate::proxy::{PUBACK, PUBCOMP, PUBREC, Proxy};

#[test]
fn no_row_is_sent_before_its_own_acknowledgement() {
    let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce];
    for (protocol, qos) in PROTOCOLS.into_iter().flat_map(|protocol| qos.map(|qos| (protocol, qos))) {
        let broker = Mosquitto::start();
        let proxy = Proxy::to(broker.port());
        let settings = Settings { settle_after: Duration::ZERO, ack_timeout: SOON, ..quick() };
        let house = House::new(at(proxy.port()).with_protocol(protocol), settings);
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
    let house = House::new(at(proxy.port()), quick());
    let to = |n: usize| if n == 20 { "disliked" } else { "t" };
    house.enqueue((0..40).map(|n| Message::text(to(n), n.to_string()).with_key("a")));
    house.outbox.flush(10 * SOON).unwrap(); // a stall of the machine makes the controls 160 times as long
    let failed = house.outbox.failed(0, 10).unwrap();
    assert_eq!(failed.iter().map(|failed| failed.topic.as_str()).collect::<Vec<_>>(), ["disliked"]);
    let received = until_all(&subscriber, 39);
    let payloads = received.iter().map(Received::text);
    assert_in_order(payloads, 1);
}

#[test]
fn every_quality_of_service_arrives_and_is_settled() {
    for protocol in PROTOCOLS {
        let broker = Mosquitto::start();
        let subscriber = broker.subscribe("#");
        let house = House::new(at(broker.port()).with_protocol(protocol), quick());
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
}
