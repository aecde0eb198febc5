//! Ends that are wanted: in time, and with a good-bye.

use super::scripted::{self, CONNECT, DISCONNECT, Peer, connack};
use super::*;

#[test]
fn a_session_that_is_only_being_opened_can_be_given_up() {
    let (accepted, connecting) = std::sync::mpsc::channel();
    let broker = scripted::broker(move |listener| {
        let mut peer = Peer::accept(&listener);
        accepted.send(()).unwrap();
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::new(settings(broker.port));
    forwarder.connect();
    connecting.recv_timeout(PATIENCE).unwrap();
    forwarder.broker.disconnect(Instant::now() + Duration::from_secs(60));
    forwarder.wait_down();
    broker.join();
}

/// The broker may have let us in by then, and would speak the last will.
#[test]
fn a_session_that_is_given_up_before_connack_says_good_bye() {
    let (asked, connecting) = std::sync::mpsc::channel();
    let broker = scripted::broker(move |listener| {
        let mut peer = Peer::accept(&listener);
        assert_eq!(peer.read().expect("CONNECT").kind(), CONNECT);
        asked.send(()).unwrap();
        assert_eq!(peer.read().expect("DISCONNECT").kind(), DISCONNECT);
        assert!(peer.read().is_none());
    });
    let mut forwarder = Forwarder::new(settings(broker.port));
    forwarder.connect();
    connecting.recv_timeout(PATIENCE).unwrap();
    forwarder.broker.disconnect(Instant::now());
    forwarder.wait_down();
    broker.join();
}

#[test]
fn a_recycled_session_says_good_bye() {
    let broker = scripted::session(connack(&[]), |mut peer| {
        let id = peer.publish().id();
        peer.answer(4, id, 0x91); // packet identifier in use
        assert_eq!(peer.read().expect("DISCONNECT").kind(), DISCONNECT);
        assert!(peer.read().is_none());
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send_alike(1, &qos(1));
    assert!(matches!(forwarder.wait_down(), Down::Recycled));
    broker.join();
}

#[test]
fn a_polite_end_waits_for_acknowledgements_that_do_come_and_then_says_good_bye() {
    let broker = scripted::session(connack(&[]), |mut peer| {
        let ids: Vec<_> = (0..5).map(|_| peer.publish().id()).collect();
        std::thread::sleep(Duration::from_millis(100)); // a slow broker, not a wait for anything
        for id in ids {
            peer.answer(4, id, 0);
        }
        assert_eq!(peer.read().expect("DISCONNECT").kind(), DISCONNECT);
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send_alike(5, &qos(1));
    let begun = Instant::now();
    forwarder.broker.disconnect(begun + PATIENCE);
    forwarder.wait_down();
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    assert_eq!(forwarder.count(&Outcome::Acknowledged), 5);
    broker.join();
}

#[test]
fn swallowed_acknowledgements_are_waited_for_until_the_time_given_and_no_longer() {
    let broker = scripted::session(connack(&[]), |mut peer| {
        for _ in 0..5 {
            peer.publish();
        }
        assert_eq!(peer.read().expect("DISCONNECT").kind(), DISCONNECT);
        assert!(peer.read().is_none());
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send_alike(5, &qos(1));
    let begun = Instant::now();
    forwarder.broker.disconnect(begun + Duration::from_millis(300));
    forwarder.wait_down();
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(forwarder.count(&Outcome::NotDelivered), 5);
    broker.join();
}

#[test]
fn a_stalled_peer_does_not_hold_up_the_end() {
    let (release, stalled) = std::sync::mpsc::channel::<()>();
    let broker = scripted::session(connack(&[]), move |peer| {
        let _ = stalled.recv(); // reads nothing: the socket's buffers fill up
        drop(peer);
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    let large = Message::new("t", vec![0; 1_000_000]);
    // QoS 0 counts once the kernel has it: some will, some must not
    forwarder.send_alike(100, &large.clone().with_qos(QoS::AtMostOnce));
    forwarder.send([(101, large)]);
    forwarder.wait("the first to be with the kernel", |f| f.settled > 0);

    let begun = Instant::now();
    forwarder.broker.disconnect(begun);
    assert!(begun.elapsed() < Duration::from_millis(50), "disconnect itself blocked for {:?}", begun.elapsed());
    forwarder.wait_down();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(forwarder.settled, 101);
    assert_eq!(forwarder.outcome(100), &Outcome::NotDelivered, "no socket buffers 100 MB");
    assert_eq!(forwarder.outcome(101), &Outcome::NotDelivered);
    drop(release);
    broker.join();
}

#[test]
fn a_stalled_peer_gets_half_a_second_for_the_good_bye() {
    let (release, stalled) = std::sync::mpsc::channel::<()>();
    let broker = scripted::session(connack(&[]), move |peer| {
        let _ = stalled.recv();
        drop(peer);
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send_alike(100, &Message::new("t", vec![0; 1_000_000]));
    let begun = Instant::now();
    forwarder.broker.disconnect(begun + Duration::from_millis(100));
    forwarder.wait_down();
    assert!(begun.elapsed() < Duration::from_secs(1), "settled late: {:?}", begun.elapsed());
    assert_eq!(forwarder.count(&Outcome::NotDelivered), 100);
    drop(release);
    broker.join();
}

#[test]
fn a_dropped_adapter_closes_its_connection() {
    let broker = scripted::session(connack(&[]), |mut peer| peer.read_to_end());
    let forwarder = Forwarder::up(settings(broker.port));
    drop(forwarder);
    broker.join();
}
