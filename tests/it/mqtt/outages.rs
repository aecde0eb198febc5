//! The network between fails, or the broker stands still.

use std::time::Instant;

use edge_outbox::{LinkState, Message, Settings};

use super::archive::Archive;
use super::{House, PROTOCOLS, assert_in_order, at, impatient, numbered, quick, until_all};
use crate::mosquitto::{Mosquitto, Received};
use crate::proxy::Proxy;

#[test]
fn a_connection_that_dies_without_a_word_is_given_up_and_what_it_swallowed_comes_again() {
    for protocol in PROTOCOLS {
        let broker = Mosquitto::start();
        let subscriber = broker.subscribe("#");
        let proxy = Proxy::to(broker.port());
        let house = House::new(impatient(proxy.port()).with_protocol(protocol), quick());
        house.enqueue(numbered(0..10));
        house.flush();
        proxy.strand();
        house.enqueue(numbered(10..200));
        house.flush();
        until_all(&subscriber, 200);
        assert_eq!(house.rows("SENT"), 200);
    }
}

#[test]
fn a_link_that_falls_silent_is_told_as_an_outage_and_the_backlog_goes_when_it_heals() {
    for protocol in PROTOCOLS {
        let broker = Mosquitto::start();
        let subscriber = broker.subscribe("#");
        let proxy = Proxy::to(broker.port());
        let house = House::new(impatient(proxy.port()).with_protocol(protocol), quick());
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
}

#[test]
fn an_idle_connection_that_dies_without_a_word_is_noticed_by_its_pings() {
    let broker = Mosquitto::start();
    let proxy = Proxy::to(broker.port());
    let house = House::new(impatient(proxy.port()), quick());
    house.wait_for_session();
    proxy.strand();
    proxy.wait_for("a new connection", |traffic| (traffic.connections == 2).then_some(()));
    house.enqueue(numbered(0..1));
    house.flush();
}

#[test]
fn a_link_that_breaks_again_and_again_parks_nothing() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let proxy = Proxy::to(broker.port());
    let house = House::new(impatient(proxy.port()), quick());
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

/// All that is in flight is with the kernel: nothing but the missing answers tells that nobody reads it.
#[test]
fn a_broker_that_stands_still_is_given_up_and_gets_everything_when_it_goes_on() {
    for protocol in PROTOCOLS {
        let broker = Mosquitto::start();
        let subscriber = broker.subscribe("#");
        let house = House::new(impatient(broker.port()).with_protocol(protocol), quick());
        house.enqueue(numbered(0..10));
        house.flush();
        broker.signal("STOP");
        house.enqueue(numbered(10..200));
        let why = house.wait_for_words("answer");
        assert_eq!(house.rows("FAILED"), 0, "{why}");
        broker.signal("CONT");
        house.flush();
        assert_in_order(until_all(&subscriber, 200).iter().map(Received::text), 1);
        assert_eq!(house.rows("SENT"), 200);
    }
}

/// 15 MB are more than the kernel takes for both ends: the client stands in the middle of a packet. It is not to give up
/// after `ack_timeout`, which is a second here, what 15 MB may take on a slow link.
#[test]
fn a_broker_that_stops_reading_gets_the_rest_of_the_packet_when_it_goes_on() {
    for protocol in PROTOCOLS {
        let broker = Mosquitto::start();
        let subscriber = broker.subscribe("#");
        let house = House::new(at(broker.port()).with_protocol(protocol), greedy());
        house.wait_for_session();
        broker.signal("STOP");
        house.enqueue((0..300).map(large));
        house.wait_until("a full window", |house| house.outbox.stats().unwrap().in_flight == 256);
        let since = Instant::now();
        house.wait_until("more than a second of silence", |house| {
            assert_eq!(house.outbox.status().link, LinkState::Up);
            since.elapsed() > 3 * house.outbox.settings().ack_timeout / 2
        });
        broker.signal("CONT");
        house.flush();
        let received = until_all(&subscriber, 300);
        assert!(received.iter().all(|received| received.payload.len() == LARGE));
        assert_eq!((received.len(), house.outbox.stats().unwrap().reconnects), (300, 0), "nothing was sent twice");
    }
}

#[test]
fn a_broker_that_dies_in_the_middle_of_a_packet_gets_all_of_it_when_it_is_back() {
    for protocol in PROTOCOLS {
        let mut broker = Mosquitto::start_with(&["persistence true", "autosave_interval 0"]);
        let archive = Archive::subscribe(broker.port(), "#");
        broker.save();
        let house = House::new(at(broker.port()).with_protocol(protocol), greedy());
        house.wait_for_session();
        broker.signal("STOP");
        house.enqueue((0..300).map(large));
        house.wait_until("a full window", |house| house.outbox.stats().unwrap().in_flight == 256);
        broker.kill();
        house.wait_for("the outage", |status| matches!(status.link, LinkState::Offline { .. }));
        assert_eq!(house.rows("PENDING"), 300);
        broker.restart();
        house.flush();
        assert_eq!(house.rows("SENT"), 300);
        assert!(archive.read_until(300).into_iter().eq((0..300).map(|n| format!("{n:0>LARGE$}"))));
    }
}

const LARGE: usize = 60_000;

fn large(number: usize) -> Message {
    Message::text("t", format!("{number:0>LARGE$}"))
}

/// Takes a whole window of large messages at a time.
fn greedy() -> Settings {
    Settings { window_bytes: 64 << 20, ..quick() }
}
