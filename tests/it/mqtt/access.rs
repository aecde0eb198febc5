//! Who may connect, and who may say what.

use std::collections::BTreeSet;
use std::fs;

use edge_outbox::broker::Protocol;
use edge_outbox::{LinkState, Message, QoS};

use super::{House, PROTOCOLS, at, journal, numbered, quick, until_all};
use crate::mosquitto::Mosquitto;

/// The password `spring`, as `mosquitto_passwd` writes it.
const PASSWORDS: &str = "station:$7$101$ZvOa7oJPPw6Dgdar\
    $HLwfbePvkHkptmOALdP4yktS1ZEqr+AUnd9goxvPi8+9LIj/4KPYnGvO9SI4onOuybG3I04w8TWfDeWEhy/cfA==\n";

/// The backlog of the closed topic is larger than any window: what waits must not stand in the way of what may go.
#[test]
fn a_month_of_a_forbidden_topic_waits_for_the_access_list_and_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("acl"), "topic readwrite open/#\ntopic read shut/#\n").unwrap();
    let broker = Mosquitto::start_in(folder, &["acl_file acl"]);
    let subscriber = broker.subscribe("#");
    let house = House::new(at(broker.port()), quick());
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

/// mosquitto acknowledges what it drops for a client of MQTT 3.1.1, which has no other answer. So a row is SENT that
/// nobody gets, and there is nothing by which a client could know: README says so.
#[test]
fn mqtt_3_1_1_cannot_tell_what_the_broker_dropped() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("acl"), "topic readwrite open/#\ntopic read shut/#\n").unwrap();
    let broker = Mosquitto::start_in(folder, &["acl_file acl", "message_size_limit 1000"]);
    let subscriber = broker.subscribe("#");
    let house = House::new(at(broker.port()).with_protocol(Protocol::V311), quick());
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let shut = Message::text("shut/1", "not allowed");
        let large = Message::text("open/1", "too large".repeat(200));
        let good = Message::text("open/1", "good");
        house.enqueue([shut, large, good].into_iter().map(|message| message.with_qos(qos)));
    }
    house.enqueue([Message::text("open/1", "the last").with_qos(QoS::ExactlyOnce)].into_iter());
    house.flush();
    assert_eq!(house.rows("SENT"), 7);
    let arrived = subscriber.until(b"the last");
    assert_eq!(arrived.iter().map(|received| received.text()).collect::<Vec<_>>(), ["good", "good"]);
    assert_eq!(house.outbox.status().closed_topics, []);
}

/// A secret that is not there, then a wrong one, then the right one, and the program runs on all the while.
#[test]
fn a_backlog_waits_for_the_right_password_and_goes_without_a_restart() {
    journal::begin();
    for protocol in PROTOCOLS {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("passwords"), PASSWORDS).unwrap();
        let lines = ["acl_file acl", "password_file passwords"];
        fs::write(folder.path().join("acl"), "topic readwrite #\nuser station\ntopic write #\n").unwrap();
        let broker = Mosquitto::start_in(folder, &lines);
        let subscriber = broker.subscribe("#");
        let file = broker.folder().join("secret");
        let client = at(broker.port()).with_protocol(protocol).with_user("station").with_password_file(&file);
        let house = House::new(client, quick());
        house.enqueue(numbered(0..500));
        let why = house.wait_for_words("secret");
        assert!(journal::says(&["password_file", &file.display().to_string()]), "{why}");

        fs::write(&file, "winter").unwrap();
        let why = house.wait_for_words("the broker");
        assert!(why.contains("password") && !why.contains("winter"), "{why}");
        assert!(matches!(house.outbox.status().link, LinkState::Refused { .. }), "{why}");
        assert_eq!((house.rows("PENDING"), house.outbox.stats().unwrap().reconnects), (500, 0));

        fs::write(&file, "spring\n").unwrap();
        house.flush();
        assert_eq!(until_all(&subscriber, 500).len(), 500);
    }
    assert!(journal::lines().iter().all(|line| !line.contains("winter") && !line.contains("spring")));
}
