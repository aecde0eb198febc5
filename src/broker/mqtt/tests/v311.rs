//! MQTT 3.1.1, by scripted brokers and a real one.

use super::mosquitto::Mosquitto;
use super::scripted::{self, CONNECT, DISCONNECT, PUBLISH, PUBREL, Peer};
use super::*;
use crate::QoS;
use crate::broker::mqtt::{LastWill, Protocol};

/// CONNACK of 3.1.1.
fn connack(code: u8) -> Vec<u8> {
    vec![0x20, 2, 0, code]
}

fn v311(port: u16) -> MqttSettings {
    MqttSettings { protocol: Protocol::V311, ..settings(port) }
}

#[test]
fn a_session_of_3_1_1_settles_every_qos_by_its_own_answers() {
    let broker = scripted::broker(|listener| {
        let mut peer = Peer::accept(&listener);
        let connect = peer.read().expect("CONNECT");
        assert_eq!(
            (connect.kind(), &connect.body()[..8]),
            (CONNECT, &b"\0\x04MQTT\x04\x02"[..]),
            "a clean session of 3.1.1"
        );
        peer.write(&connack(0));
        while let Some(packet) = peer.read() {
            if packet.kind() == DISCONNECT {
                break;
            }
            if packet.kind() == PUBLISH && packet.qos() == 0 {
                continue;
            }
            let [high, low] = packet.id().to_be_bytes();
            match (packet.kind(), packet.qos()) {
                (PUBLISH, 1) => peer.write(&[0x40, 2, high, low]),
                (PUBLISH, 2) => peer.write(&[0x50, 2, high, low]),
                (PUBREL, _) => peer.write(&[0x70, 2, high, low]),
                _ => {}
            }
        }
    });
    let mut forwarder = Forwarder::up(v311(broker.port));
    let of = |row: i64| Message::text("t", row.to_string()).with_qos(QoS::from_level((row % 3) as u8).unwrap());
    forwarder.send((1..=1_000).map(|row| (row, of(row))));
    forwarder.wait_settled(1_000);
    assert_eq!(forwarder.count(&Outcome::Acknowledged), 1_000);
    forwarder.broker.disconnect(Instant::now());
    broker.join();
}

/// RabbitMQ 3.10 keeps QoS 2 as QoS 1, and answers it so.
#[test]
fn qos_2_that_a_broker_of_3_1_1_acknowledges_as_qos_1_is_sent() {
    let broker = scripted::session(connack(0), |mut peer| {
        let [high, low] = peer.publish().id().to_be_bytes();
        peer.write(&[0x40, 2, high, low]);
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(v311(broker.port));
    forwarder.send([(1, Message::text("t", "1").with_qos(QoS::ExactlyOnce))]);
    forwarder.wait_settled(1);
    assert_eq!(forwarder.outcome(1), &Outcome::Acknowledged);
    forwarder.broker.disconnect(Instant::now());
    broker.join();
}

#[test]
fn topic_and_payload_are_all_that_3_1_1_carries_and_they_arrive() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let mut forwarder = Forwarder::up(v311(broker.port()));
    let message =
        Message::text("weather/roof", "21.5 °C").with_header("unit", "celsius").with_content_type("text/plain");
    for (row, qos) in (1..).zip([QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]) {
        forwarder.send([(row, message.clone().with_qos(qos))]);
        forwarder.wait_settled(row as usize);
        assert_eq!(forwarder.outcome(row), &Outcome::Acknowledged);
        let received = &subscriber.take(1)[0];
        assert_eq!((received.topic.as_str(), received.text(), received.qos), ("weather/roof", "21.5 °C", qos.level()));
        assert!(received.properties.is_empty() && received.content_type.is_none());
    }
}

#[test]
fn every_refused_session_of_3_1_1_is_told_apart() {
    for (code, is_refused, word) in [
        (1, true, "does not speak MQTT 3.1.1"),
        (2, true, "client id"),
        (3, false, "not available"),
        (4, true, "user name and password"),
        (5, true, "does not allow"),
        (99, false, "0x63"),
    ] {
        let broker = scripted::session(connack(code), |mut peer| peer.read_to_end());
        let mut forwarder = Forwarder::new(v311(broker.port));
        forwarder.connect();
        let down = forwarder.wait_down();
        assert_eq!(matches!(down, Down::Refused(_)), is_refused, "{code}: {down:?}");
        assert!(words(&down).contains(word), "{code}: {}", words(&down));
        broker.join();
    }
}

/// What a broker of 3.1.1 answers to CONNECT of MQTT 5: in its own shape, without properties.
#[test]
fn a_broker_that_knows_no_mqtt_5_is_named_as_the_cause() {
    let broker = scripted::session(connack(1), |mut peer| peer.read_to_end());
    let mut forwarder = Forwarder::new(settings(broker.port));
    forwarder.connect();
    let down = forwarder.wait_down();
    assert!(matches!(down, Down::Refused(_)), "{down:?}");
    assert!(words(&down).contains("set protocol to 3.1.1"), "{}", words(&down));
    broker.join();
}

/// It would take our properties for the beginning of the payload.
#[test]
fn a_broker_that_welcomes_mqtt_5_as_3_1_1_gets_no_message() {
    let broker = scripted::session(connack(0), |mut peer| peer.read_to_end());
    let mut forwarder = Forwarder::new(settings(broker.port));
    forwarder.connect();
    forwarder.wait("up or down", |f| f.limits.is_some() || f.down.is_some());
    assert_eq!(forwarder.limits, None);
    let down = forwarder.wait_down();
    assert!(matches!(down, Down::Refused(_)), "{down:?}");
    assert!(words(&down).contains("set protocol to 3.1.1"), "{}", words(&down));
    broker.join();
}

#[test]
fn the_last_will_is_said_when_the_connection_is_lost_and_not_when_it_is_ended() {
    let broker = Mosquitto::start();
    for protocol in [Protocol::V5, Protocol::V311] {
        let subscriber = broker.subscribe("will/#");
        let will = |topic: &str| LastWill::text(topic, "gone");
        let of = |topic: &str| MqttSettings { protocol, last_will: Some(will(topic)), ..settings(broker.port()) };
        // ended politely, and at once: the broker hears a good-bye both times
        for patience in [Duration::from_secs(5), Duration::ZERO] {
            let mut ended = Forwarder::up(of("will/ended"));
            ended.broker.disconnect(Instant::now() + patience);
            ended.wait_down();
        }
        let cable = super::mosquitto::Cable::to(broker.port()).unwrap();
        let mut lost = Forwarder::up(MqttSettings { port: Some(cable.port()), ..of("will/lost") });
        cable.cut();
        lost.wait_down();
        let received = &subscriber.take(1)[0];
        assert_eq!((received.topic.as_str(), received.text()), ("will/lost", "gone"));
    }
}
