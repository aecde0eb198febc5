//! Pings, and what they say of the broker.

use super::scripted::{self, PINGREQ, connack};
use super::*;

#[test]
fn an_answered_ping_is_a_sign_of_life() {
    // the broker asks for pings every second, and then, in a second session, for none at all: then ours counts
    for (keep_alive, pings) in [(1, 2), (0, 1)] {
        let shortest = Duration::from_secs(5);
        let broker = scripted::session(connack(&[0x13, 0, keep_alive]), move |mut peer| {
            for _ in 0..pings {
                assert_eq!(peer.read().expect("PINGREQ").kind(), PINGREQ);
                peer.write(&[0xD0, 0]);
            }
            let id = peer.publish().id();
            peer.answer(4, id, 0);
            peer.read_to_end();
        });
        let mut forwarder = Forwarder::up(MqttSettings { keep_alive: shortest, ..settings(broker.port) });
        forwarder.wait("signs of life", |f| f.alive == pings);
        forwarder.send([(1, qos(1))]);
        forwarder.wait_settled(1);
        assert_eq!(forwarder.outcome(1), &Outcome::Acknowledged);
        forwarder.broker.disconnect(Instant::now());
        broker.join();
    }
}

#[test]
fn a_ping_that_is_asked_for_is_sent_at_once() {
    let broker = scripted::session(connack(&[]), |mut peer| {
        assert_eq!(peer.read().expect("PINGREQ").kind(), PINGREQ);
        peer.write(&[0xD0, 0]);
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(MqttSettings { keep_alive: Duration::from_secs(3600), ..settings(broker.port) });
    forwarder.broker.ping();
    forwarder.wait("a sign of life", |f| f.alive == 1);
    forwarder.broker.disconnect(Instant::now());
    broker.join();
}

#[test]
fn an_unanswered_ping_ends_the_session() {
    let broker = scripted::session(connack(&[0x13, 0, 1]), |mut peer| peer.read_to_end());
    let shortest = Duration::from_secs(5);
    let mut forwarder = Forwarder::up(MqttSettings { keep_alive: shortest, ..settings(broker.port) });
    let down = forwarder.wait_down();
    assert!(words(&down).contains("ping"), "{}", words(&down));
    broker.join();
}

#[test]
fn a_broker_that_wants_to_hear_something_every_second_may_take_longer_to_answer() {
    let broker = scripted::session(connack(&[0x13, 0, 1]), |mut peer| {
        assert_eq!(peer.read().expect("PINGREQ").kind(), PINGREQ);
        std::thread::sleep(Duration::from_millis(1_500)); // a slow link, not a wait for anything
        peer.write(&[0xD0, 0]);
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.wait("a sign of life", |f| f.alive > 0 || f.down.is_some());
    assert!(forwarder.down.is_none(), "{:?}", forwarder.down);
    forwarder.broker.disconnect(Instant::now());
    broker.join();
}

#[test]
fn answers_to_pings_that_nobody_asked_for_say_nothing() {
    let broker = scripted::session(connack(&[]), |mut peer| {
        for _ in 0..2 {
            let id = peer.publish().id();
            peer.write(&[0xD0, 0].repeat(1_000));
            peer.answer(4, id, 0);
            assert_eq!(peer.read().expect("PINGREQ").kind(), PINGREQ);
            peer.write(&[0xD0, 0].repeat(1_000));
        }
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    for round in 1..=2 {
        forwarder.send([(1, qos(1))]);
        forwarder.wait_settled(round);
        assert_eq!(forwarder.alive, round - 1, "nobody had asked");
        forwarder.broker.ping();
        forwarder.wait("a sign of life", |f| f.alive >= round);
    }
    assert_eq!(forwarder.alive, 2, "one for each ping");
    forwarder.broker.disconnect(Instant::now());
    broker.join();
}
