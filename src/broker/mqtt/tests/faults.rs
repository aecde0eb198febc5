//! Brokers that refuse, stall, cut, forget and lie.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::scripted::{
    self, CONNECT, DISCONNECT, PINGREQ, PUBLISH, PUBREL, Peer, connack, connack_refused, receive_maximum,
};
use super::*;
use crate::QoS;
use crate::broker::Verdict;

fn qos(level: u8) -> Message {
    Message::text("t", "payload").with_qos(QoS::from_level(level).unwrap())
}

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
fn acknowledgements_out_of_order_settle_the_right_messages() {
    let broker = scripted::session(connack(&receive_maximum(4)), |mut peer| {
        // the oldest is answered last each time, so its packet id is never free for another one
        for _ in 0..5 {
            let mut ids: Vec<_> = (0..4).map(|_| peer.publish().id()).collect();
            ids.reverse();
            for (n, id) in ids.into_iter().enumerate() {
                peer.answer(4, id, if n == 0 { 0x80 } else { 0 });
            }
        }
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    assert_eq!(forwarder.limits.unwrap().window, 4);
    forwarder.send_alike(20, &qos(1));
    forwarder.wait_settled(20);
    for row in 1..=20 {
        let refused = matches!(forwarder.outcome(row), Outcome::Refused(_));
        assert_eq!(refused, row % 4 == 0, "row {row}");
    }
    forwarder.broker.disconnect(Instant::now());
    broker.join();
}

#[test]
fn no_more_than_the_brokers_receive_maximum_is_ever_unanswered() {
    let broker = scripted::session(connack(&receive_maximum(20)), |mut peer| {
        let mut unanswered = VecDeque::new();
        let mut seen = 0;
        while seen < 200 {
            unanswered.push_back(peer.publish().id());
            seen += 1;
            assert!(unanswered.len() <= 20);
            // answered only when nothing more comes without it
            if unanswered.len() == 20 {
                peer.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                assert!(peer.read().is_none(), "a 21st message came");
                peer.stream.set_read_timeout(None).unwrap();
                for id in unanswered.drain(..) {
                    peer.answer(4, id, 0);
                }
            }
        }
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    assert_eq!(forwarder.limits, Some(Limits { window: 20, bytes: usize::MAX }));
    forwarder.send_alike(200, &qos(1)); // ten times what it may: the adapter holds the limit by itself
    forwarder.wait_settled(200);
    assert_eq!(forwarder.count(&Outcome::Acknowledged), 200);
    forwarder.broker.disconnect(Instant::now());
    broker.join();
}

#[test]
fn every_reason_has_its_verdict() {
    let table = [
        (0x80, Verdict::Later),
        (0x83, Verdict::Later),
        (0x87, Verdict::Topic),
        (0x90, Verdict::Never),
        (0x95, Verdict::Never), // not MQTT's to say here, but mosquitto's
        (0x97, Verdict::Topic),
        (0x99, Verdict::Never),
        (0xe7, Verdict::Later), // nobody's yet
    ];
    for (level, answer) in [(1, 4), (2, 5)] {
        let broker = scripted::session(connack(&[]), move |mut peer| {
            for (reason, _) in table {
                let id = peer.publish().id();
                peer.answer(answer, id, reason);
            }
            peer.read_to_end();
        });
        let mut forwarder = Forwarder::up(settings(broker.port));
        forwarder.send_alike(table.len() as i64, &qos(level));
        forwarder.wait_settled(table.len());
        for (row, (reason, verdict)) in (1..).zip(table) {
            let refusal = forwarder.refusal(row);
            assert_eq!(refusal.verdict, verdict, "{reason:#x}");
            assert!(refusal.reason.contains(&format!("{reason:#x}")), "{refusal}");
        }
        forwarder.broker.disconnect(Instant::now());
        broker.join();
    }
}

#[test]
fn no_subscriber_is_no_refusal() {
    let broker = scripted::session(connack(&[]), |mut peer| {
        let id = peer.publish().id();
        peer.answer(4, id, 0x10);
        let id = peer.publish().id();
        peer.answer(5, id, 0x10);
        assert_eq!(peer.read().expect("PUBREL").kind(), PUBREL);
        peer.answer(7, id, 0);
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send([(1, qos(1)), (2, qos(2))]);
    forwarder.wait_settled(2);
    assert_eq!(forwarder.count(&Outcome::Acknowledged), 2);
    forwarder.broker.disconnect(Instant::now());
    broker.join();
}

#[test]
fn a_packet_id_that_the_broker_thinks_in_use_recycles_the_session() {
    let broker = scripted::session(connack(&[]), |mut peer| {
        let id = peer.publish().id();
        peer.answer(4, id, 0x91);
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send_alike(3, &qos(1));
    assert!(matches!(forwarder.wait_down(), Down::Recycled));
    assert_eq!(forwarder.count(&Outcome::NotDelivered), 3);
    broker.join();
}

#[test]
fn refusals_of_qos_2_do_not_use_the_window_up() {
    // ten times the window, QoS 0 and 1 in between: a place that a refusal does not give back would be missed
    let broker = scripted::session(connack(&receive_maximum(8)), |mut peer| {
        while let Some(packet) = peer.read() {
            match (packet.kind(), packet.qos()) {
                (PUBLISH, 1) => peer.answer(4, packet.id(), 0),
                (PUBLISH, 2) => peer.answer(5, packet.id(), 0x87),
                _ => {}
            }
        }
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send((1..=120).map(|row| (row, qos([2, 2, 0, 2, 1][row as usize % 5]))));
    forwarder.wait_settled(120);
    assert!(forwarder.down.is_none());
    assert_eq!(forwarder.count(&Outcome::Acknowledged), 48);
    assert_eq!(forwarder.refusal(1).verdict, Verdict::Topic);
    forwarder.broker.disconnect(Instant::now());
    broker.join();
}

#[test]
fn a_packet_id_is_not_given_again_before_the_last_word_about_it() {
    const SLOW: usize = 3;
    let broker = scripted::session(connack(&receive_maximum(8)), |mut peer| {
        let (mut unfinished, mut released, mut quick) = (HashSet::new(), Vec::new(), 0);
        while released.len() < SLOW || quick < 100 {
            let packet = peer.read().expect("a packet");
            match (packet.kind(), packet.qos()) {
                (PUBREL, _) => released.push(packet.id()), // PUBCOMP waits until a hundred others have passed
                (PUBLISH, qos) => {
                    assert!(unfinished.insert(packet.id()), "{} is in use", packet.id());
                    if qos == 2 {
                        peer.answer(5, packet.id(), 0);
                    } else {
                        unfinished.remove(&packet.id());
                        peer.answer(4, packet.id(), 0);
                        quick += 1;
                    }
                }
                (kind, _) => panic!("packet {kind}"),
            }
        }
        for id in released {
            peer.answer(7, id, 0);
        }
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send((1..=100 + SLOW as i64).map(|row| (row, qos(if row <= SLOW as i64 { 2 } else { 1 }))));
    forwarder.wait_settled(100 + SLOW);
    assert_eq!(forwarder.count(&Outcome::Acknowledged), 100 + SLOW);
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

#[test]
fn what_the_broker_would_hang_up_for_is_refused_before_it_is_sent() {
    // maximum packet size 100, maximum QoS 1, no retained messages
    let terms = [0x27, 0, 0, 0, 100, 0x24, 1, 0x25, 0];
    let broker = scripted::session(connack(&terms), |mut peer| {
        let packet = peer.publish();
        peer.answer(4, packet.id(), 0);
        assert!(peer.read().is_none_or(|packet| packet.kind() == DISCONNECT), "more than the good one was sent");
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    let large = Message::new("t", vec![0; 100]);
    forwarder.send([(1, large), (2, qos(2)), (3, qos(1).retained()), (4, Message::text("a/+", "")), (5, qos(1))]);
    forwarder.wait_settled(5);
    for (row, verdict, word) in [
        (1, Verdict::Never, "allows 100"),
        (2, Verdict::Topic, "QoS 2"),
        (3, Verdict::Topic, "retained"),
        (4, Verdict::Never, "topic"),
    ] {
        let refusal = forwarder.refusal(row);
        assert_eq!(refusal.verdict, verdict, "row {row}");
        assert!(refusal.reason.contains(word), "{refusal}");
    }
    assert_eq!(forwarder.outcome(5), &Outcome::Acknowledged);
    forwarder.broker.disconnect(Instant::now());
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
fn a_dropped_adapter_closes_its_connection() {
    let broker = scripted::session(connack(&[]), |mut peer| peer.read_to_end());
    let forwarder = Forwarder::up(settings(broker.port));
    drop(forwarder);
    broker.join();
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
