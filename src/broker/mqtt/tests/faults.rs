//! Brokers that are not there, refuse, cut and lie.

use super::scripted::{self, CONNECT, Peer, connack, connack_refused};
use super::*;
use crate::broker::mqtt::Protocol;

#[test]
fn nobody_there_is_unreachable_and_says_why() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut forwarder = Forwarder::new(settings(port));
    forwarder.connect();
    let down = forwarder.wait_down();
    assert!(matches!(down, Down::Unreachable(_)), "{down:?}");
    assert!(words(&down).contains("refused"), "{}", words(&down));
}

#[test]
fn a_broker_that_never_answers_connect_is_given_up_in_time() {
    let broker = scripted::broker(|listener| Peer::accept(&listener).read_to_end());
    let timeout = Duration::from_millis(200);
    let mut forwarder = Forwarder::new(MqttSettings { connect_timeout: timeout, ..settings(broker.port) });
    forwarder.connect();
    let down = forwarder.wait_down();
    assert!(matches!(down, Down::Unreachable(_)), "{down:?}");
    assert!(words(&down).contains("200ms"), "{}", words(&down));
    broker.join(); // the socket was closed
}

#[test]
fn a_refused_connect_is_told_from_a_busy_broker() {
    for (code, is_refused) in [
        (0x84, true),
        (0x85, true),
        (0x86, true),
        (0x87, true),
        (0x8A, true),
        (0x8C, true),
        (0x88, false),
        (0x89, false),
    ] {
        let broker = scripted::session(connack_refused(code), |mut peer| peer.read_to_end());
        let secret = MqttSettings {
            user: Some("anna".to_owned()),
            password: Some("s3cret".to_owned()),
            ..settings(broker.port)
        };
        let mut forwarder = Forwarder::new(secret);
        forwarder.connect();
        let down = forwarder.wait_down();
        assert_eq!(matches!(down, Down::Refused(_)), is_refused, "{code:#x}: {down:?}");
        let all = format!("{down:?} {}", words(&down));
        assert!(!all.contains("s3cret") && !all.contains("anna"), "{all}");
        broker.join();
    }
}

/// What it remembers of packet ids would make it take a new message for a repetition: acknowledge it, and drop it.
#[test]
fn a_broker_that_claims_to_remember_a_clean_session_gets_no_message() {
    for (protocol, connack) in [(Protocol::V5, &[0x20, 3, 1, 0, 0][..]), (Protocol::V311, &[0x20, 2, 1, 0])] {
        let broker = scripted::session(connack.to_vec(), |mut peer| peer.read_to_end());
        let mut forwarder = Forwarder::new(MqttSettings { protocol, ..settings(broker.port) });
        forwarder.connect();
        forwarder.wait("up or down", |f| f.limits.is_some() || f.down.is_some());
        assert_eq!(forwarder.limits, None, "{protocol:?}");
        let down = forwarder.wait_down();
        assert!(matches!(down, Down::Refused(_)), "{protocol:?}: {down:?}");
        assert!(words(&down).contains("remember a session"), "{}", words(&down));
        broker.join();
    }
}

#[test]
fn a_second_client_with_the_same_id_is_named_as_the_cause() {
    // with properties, and without: MQTT 5 lets a DISCONNECT stop behind its reason code
    for disconnect in [&[0xE0, 2, 0x8E, 0][..], &[0xE0, 1, 0x8E]] {
        let broker = scripted::session(connack(&[]), |mut peer| {
            peer.write(disconnect);
            peer.read_to_end();
        });
        let mut forwarder = Forwarder::up(settings(broker.port));
        let down = forwarder.wait_down();
        assert!(matches!(down, Down::Refused(_)), "{down:?}");
        assert!(words(&down).contains("same client id"), "{}", words(&down));
        broker.join();
    }
}

#[test]
fn a_cut_gives_every_unacknowledged_receipt_back() {
    let broker = scripted::session(connack(&[]), |mut peer| {
        for _ in 0..50 {
            let id = peer.publish().id();
            if id <= 3 {
                peer.answer(4, id, 0);
            }
        }
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send_alike(50, &qos(1));
    let down = forwarder.wait_down();
    assert!(matches!(down, Down::Unreachable(_)), "{down:?}");
    assert_eq!(forwarder.settled, 50, "every receipt speaks before the session's end does");
    assert_eq!(forwarder.count(&Outcome::Acknowledged), 3);
    assert_eq!(forwarder.count(&Outcome::NotDelivered), 47);
    broker.join();
}

#[test]
fn acknowledgements_read_together_with_the_cut_count() {
    let broker = scripted::session(connack(&[]), |mut peer| {
        let ids = [peer.publish().id(), peer.publish().id(), peer.publish().id()];
        let acks = ids.map(|id| [0x40, 2, 0, u8::try_from(id).unwrap()]).concat();
        let disconnect = [0xE0, 2, 0x8B, 0];
        peer.write(&[acks, disconnect.to_vec()].concat());
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send_alike(3, &qos(1));
    let down = forwarder.wait_down();
    assert!(words(&down).contains("shutting down"), "{}", words(&down));
    assert_eq!(forwarder.count(&Outcome::Acknowledged), 3);
    broker.join();
}

#[test]
fn a_session_that_has_ended_takes_nothing_and_the_next_one_does() {
    let broker = scripted::broker(|listener| {
        let mut first = Peer::accept(&listener);
        assert_eq!(first.read().expect("CONNECT").kind(), CONNECT);
        first.write(&connack(&[]));
        drop(first);
        let mut second = Peer::accept(&listener);
        assert_eq!(second.read().expect("CONNECT").kind(), CONNECT);
        second.write(&connack(&[]));
        let id = second.publish().id();
        second.answer(4, id, 0);
        second.read_to_end();
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.wait_down();
    let mut queue = VecDeque::from([forwarder.delivery(1, qos(1))]);
    forwarder.broker.send(&mut queue);
    assert_eq!(queue.len(), 1);

    forwarder.connect();
    forwarder.wait("the second session", |f| f.limits.is_some());
    forwarder.broker.send(&mut queue);
    forwarder.wait_settled(1);
    assert_eq!(forwarder.outcome(1), &Outcome::Acknowledged);
    forwarder.broker.disconnect(Instant::now());
    broker.join();
}

#[test]
fn an_answer_that_fits_nothing_in_flight_settles_nothing_and_ends_the_session() {
    type Script = fn(&mut Peer, u16);
    let lies: [(u8, Script); 5] = [
        (2, |peer, id| peer.answer(4, id, 0)),     // PUBACK for QoS 2
        (2, |peer, id| peer.answer(7, id, 0)),     // PUBCOMP before PUBREC
        (1, |peer, id| peer.answer(5, id, 0)),     // PUBREC for QoS 1
        (1, |peer, id| peer.answer(4, id + 9, 0)), // an id that was never given
        (1, |peer, _| peer.answer(4, 60_000, 0)),  // nor could be
    ];
    for (n, (level, lie)) in lies.into_iter().enumerate() {
        let broker = scripted::session(connack(&[]), move |mut peer| {
            let id = peer.publish().id();
            lie(&mut peer, id);
            peer.read_to_end();
        });
        let mut forwarder = Forwarder::up(settings(broker.port));
        forwarder.send([(1, qos(level))]);
        let down = forwarder.wait_down();
        assert!(matches!(down, Down::Unreachable(_)), "{n}: {down:?}");
        assert_eq!(forwarder.outcome(1), &Outcome::NotDelivered, "{n}");
        broker.join();
    }
}
