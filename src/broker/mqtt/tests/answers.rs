//! Answers to messages, and the terms that the broker sets for them.

use std::collections::HashSet;

use super::scripted::{self, DISCONNECT, PUBLISH, PUBREL, connack, receive_maximum};
use super::*;
use crate::broker::Verdict;

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
    assert_eq!(forwarder.unheard, 4, "what we refuse by ourselves is no word of the broker's");
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
    assert_eq!(forwarder.unheard, 24, "QoS 0 has no answer");
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
