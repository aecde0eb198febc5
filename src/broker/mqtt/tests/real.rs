//! A real broker, and a subscriber of its own that has the last word about what arrived.

use std::collections::HashSet;

use super::mosquitto::{Cable, Mosquitto};
use super::*;
use crate::QoS;
use crate::broker::{LastWill, Protocol, Verdict};

#[test]
fn what_a_message_says_arrives() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let mut forwarder = Forwarder::up(settings(broker.port()));
    for (row, qos) in (1..).zip([QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]) {
        let message = Message::text("weather/roof", "21.5 °C")
            .with_key("roof")
            .with_header("unit", "celsius")
            .with_header("unit", "again")
            .with_content_type("text/plain")
            .with_qos(qos);
        forwarder.send([(row, message)]);
        forwarder.wait_settled(row as usize);
        assert_eq!(forwarder.outcome(row), &Outcome::Acknowledged);
        let received = &subscriber.take(1)[0];
        assert_eq!((received.topic.as_str(), received.text(), received.qos), ("weather/roof", "21.5 °C", qos.level()));
        assert_eq!(received.content_type.as_deref(), Some("text/plain"));
        let id = MessageId::new(row, 7).to_string();
        let expected = [("unit", "celsius"), ("unit", "again"), ("id", id.as_str())];
        let properties: Vec<_> = received.properties.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(properties, expected);
    }

    let mut repeated = forwarder.delivery(4, Message::new("t", vec![0, 255]).retained());
    repeated.possible_duplicate = true;
    forwarder.broker.send(&mut VecDeque::from([repeated]));
    let received = &subscriber.take(1)[0];
    assert_eq!((received.payload.as_slice(), received.property("duplicate")), (&[0, 255][..], Some("maybe")));
    let late = broker.subscribe("t");
    assert!(late.take(1)[0].retain);
}

#[test]
fn the_last_will_is_said_when_the_connection_is_lost() {
    let broker = Mosquitto::start();
    for protocol in [Protocol::V5, Protocol::V311] {
        let topic = format!("status/{protocol:?}");
        let subscriber = broker.subscribe(&topic);
        let cable = Cable::to(broker.port()).unwrap();
        let will = LastWill::new(&topic, [0, 255]).with_qos(QoS::ExactlyOnce).retained();
        let settings = settings(cable.port()).with_protocol(protocol).with_last_will(will);
        let mut forwarder = Forwarder::up(settings);
        cable.cut();
        forwarder.wait_down();
        let received = &subscriber.take(1)[0];
        assert_eq!((received.payload.as_slice(), received.qos), (&[0, 255][..], 2), "{protocol:?}");
        assert!(broker.subscribe(&topic).take(1)[0].retain, "{protocol:?}");
    }
}

#[test]
fn messages_of_every_qos_arrive_in_the_order_in_which_they_were_sent() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let mut forwarder = Forwarder::up(MqttSettings { window: 16, ..settings(broker.port()) });
    let message = |row: i64| Message::text("t", row.to_string()).with_qos(QoS::from_level((row % 3) as u8).unwrap());
    forwarder.send((1..=1_000).map(|row| (row, message(row))));
    forwarder.wait_settled(1_000);
    assert_eq!(forwarder.count(&Outcome::Acknowledged), 1_000);
    // the broker passes QoS 2 on at PUBREL, so order holds within a QoS
    let received = subscriber.take(1_000);
    for level in 0..3 {
        let rows: Vec<i64> = received.iter().filter(|r| r.qos == level).map(|r| r.text().parse().unwrap()).collect();
        assert_eq!(rows, (1..=1_000).filter(|row| row % 3 == i64::from(level)).collect::<Vec<_>>());
    }
}

#[test]
fn ten_thousand_messages_through_a_cable_that_is_cut_again_and_again_are_all_there() {
    const COUNT: i64 = 10_000;
    const CUT_EVERY: usize = 700;
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let cable = Cable::to(broker.port()).unwrap();
    let mut forwarder = Forwarder::new(MqttSettings { window: 100, ..settings(cable.port()) });
    // QoS 0 is left out: a cut may lose it
    let message =
        |row: i64| Message::text("t", row.to_string()).with_qos(QoS::from_level(1 + (row % 2) as u8).unwrap());

    let mut open: VecDeque<i64> = (1..=COUNT).collect();
    let mut acknowledged = HashSet::new();
    let (mut sessions, mut next_cut) = (0, CUT_EVERY);
    while acknowledged.len() < COUNT as usize {
        forwarder.connect();
        sessions += 1;
        forwarder.wait("a session", |f| f.limits.is_some() || f.down.is_some());
        let mut in_flight = 0;
        while forwarder.down.is_none() && acknowledged.len() < COUNT as usize {
            let rows: Vec<_> = open.drain(..open.len().min(100 - in_flight)).collect();
            in_flight += rows.len();
            let mut queue: VecDeque<_> = rows.iter().map(|row| forwarder.delivery(*row, message(*row))).collect();
            forwarder.broker.send(&mut queue);
            drop(queue); // a session that has ended just now leaves it, and the receipts say so
            let settled = forwarder.settled;
            forwarder.wait("anything", |f| f.settled > settled || f.down.is_some());
            let mut back = Vec::new();
            for (row, outcomes) in forwarder.outcomes.drain() {
                for outcome in outcomes {
                    in_flight -= 1;
                    match outcome {
                        Outcome::Acknowledged => drop(acknowledged.insert(row)),
                        Outcome::NotDelivered => back.push(row),
                        other => panic!("row {row}: {other:?}"),
                    }
                }
            }
            back.sort_unstable();
            back.into_iter().rev().for_each(|row| open.push_front(row));
            if acknowledged.len() >= next_cut {
                next_cut += CUT_EVERY;
                cable.cut();
            }
        }
    }
    assert!(sessions > 10, "{sessions} sessions: the cuts did not cut");

    let mut last = Forwarder::up(settings(broker.port()));
    last.send([(1, Message::text("t", "the last"))]);
    let arrived: HashSet<i64> = subscriber.until(b"the last").iter().map(|r| r.text().parse().unwrap()).collect();
    let missing: Vec<_> = acknowledged.difference(&arrived).collect();
    assert!(missing.is_empty(), "acknowledged, but never arrived: {missing:?}");
}

#[test]
fn a_broker_that_dies_and_comes_back_is_connected_to_again() {
    let mut broker = Mosquitto::start();
    let mut forwarder = Forwarder::up(settings(broker.port()));
    broker.kill();
    assert!(matches!(forwarder.wait_down(), Down::Unreachable(_)));
    broker.restart();
    forwarder.connect();
    forwarder.wait("a session", |f| f.limits.is_some());
    forwarder.send_alike(10, &Message::text("t", "back"));
    forwarder.wait_settled(10);
    assert_eq!(forwarder.count(&Outcome::Acknowledged), 10);
}

#[test]
fn the_wrong_password_is_a_refused_session() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("passwords"), "").unwrap();
    let broker = Mosquitto::start_in(folder, &["allow_anonymous false", "password_file passwords"]);
    let mut forwarder = Forwarder::new(MqttSettings {
        user: Some("anna".to_owned()),
        password: Some("wrong".to_owned()),
        ..settings(broker.port())
    });
    forwarder.connect();
    let down = forwarder.wait_down();
    assert!(matches!(down, Down::Refused(_)), "{down:?}");
}

#[test]
fn a_password_in_a_file_is_read_anew_for_each_session() {
    // the password `spring`, as `mosquitto_passwd` writes it
    const PASSWORDS: &str = "station:$7$101$ZvOa7oJPPw6Dgdar\
    $HLwfbePvkHkptmOALdP4yktS1ZEqr+AUnd9goxvPi8+9LIj/4KPYnGvO9SI4onOuybG3I04w8TWfDeWEhy/cfA==\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("passwords"), PASSWORDS).unwrap();
    let file = folder.path().join("password");
    let broker = Mosquitto::start_in(folder, &["allow_anonymous false", "password_file passwords"]);
    let mut forwarder = Forwarder::new(settings(broker.port()).with_user("station").with_password_file(&file));
    let mut refused = || {
        forwarder.connect();
        let down = forwarder.wait_down();
        assert!(matches!(down, Down::Refused(_)), "{down:?}");
    };
    refused(); // there is no such file yet
    std::fs::write(&file, "winter\n").unwrap();
    refused();
    std::fs::write(&file, "spring\n").unwrap();
    forwarder.connect();
    forwarder.wait("a session", |f| f.limits.is_some());
}

#[test]
fn a_message_above_the_brokers_size_limit_is_refused_for_good_and_its_neighbours_are_not() {
    let broker = Mosquitto::start_with(&["message_size_limit 1000"]);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut forwarder = Forwarder::up(settings(broker.port()));
        let of = |size: usize| Message::new("t", vec![0; size]).with_qos(qos);
        forwarder.send([(1, of(10)), (2, of(2_000)), (3, of(10))]);
        forwarder.wait_settled(3);
        assert_eq!(forwarder.refusal(2).verdict, Verdict::Never);
        assert_eq!(forwarder.count(&Outcome::Acknowledged), 2);
        assert!(forwarder.down.is_none());
    }
}
