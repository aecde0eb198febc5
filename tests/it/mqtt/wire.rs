//! What goes over the wire beside topic and payload.

use std::time::Duration;

use edge_outbox::{Message, Outbox, QoS};

use super::{House, SOON, at, quick};
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;

#[test]
fn the_wire_tells_the_name_of_a_message_and_whether_it_may_be_a_repetition() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let proxy = Proxy::to(broker.port());
    let house = House::new(at(proxy.port()), quick());
    // what is there when the forwarder starts may have been sent by the one before
    house.wait_for_session();
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
fn whatever_mqtt_5_has_a_place_for_reaches_the_subscriber() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let house = House::new(at(broker.port()), quick());
    house.wait_for_session();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let message = Message::new("t", [0, 255])
            .with_qos(qos)
            .with_header("b", "1")
            .with_header("a", "")
            .with_header("b", "2")
            .with_header("unit", "\u{b0}C")
            .with_content_type("application/octet-stream")
            .with_response_topic("answers/1")
            .with_correlation_data([0, 255, 7]);
        let id = house.outbox.transaction(|tx| house.outbox.enqueue(tx, &message)).unwrap();
        let received = &subscriber.take(1)[0];
        let id = id.to_string();
        let expected = [("b", "1"), ("a", ""), ("b", "2"), ("unit", "\u{b0}C"), ("id", id.as_str())];
        assert_eq!(received.properties, expected.map(|(name, value)| pair(name, value)));
        assert_eq!(received.content_type.as_deref(), Some("application/octet-stream"));
        assert_eq!(received.response_topic.as_deref(), Some("answers/1"));
        assert_eq!(received.correlation_data.as_deref(), Some(&[0, 255, 7][..]));
        assert_eq!((received.payload.as_slice(), received.qos, received.expiry), (&[0, 255][..], qos.level(), None));
    }
    house.flush();
}

#[test]
fn a_subscriber_sees_what_is_left_of_an_expiry_and_not_what_there_was_at_first() {
    const HOUR: u32 = 3_600;
    let dir = tempfile::tempdir().unwrap();
    let writer = Outbox::builder(dir.path().join("house.db")).open().unwrap();
    let hour = |payload| Message::text("t", payload).with_expiry(Duration::from_secs(HOUR.into()));
    writer.transaction(|tx| writer.enqueue(tx, &hour("old"))).unwrap();
    // as if the broker had been out of reach for half of the time
    let past = "UPDATE outbox SET created_at = created_at - 1800000, expires_at = expires_at - 1800000";
    writer.connection().unwrap().execute(past, []).unwrap();
    writer.transaction(|tx| writer.enqueue(tx, &hour("new"))).unwrap();
    drop(writer);

    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let house = House::again(at(broker.port()), quick(), dir);
    let seen = |at_most: u32| {
        let received = &subscriber.take(1)[0];
        let left = received.expiry.expect("an expiry");
        let slack = SOON.as_secs() as u32;
        assert!((at_most - slack..=at_most).contains(&left), "{left} s are left of {at_most} s");
    };
    seen(HOUR / 2);
    seen(HOUR);
    house.flush();
}
