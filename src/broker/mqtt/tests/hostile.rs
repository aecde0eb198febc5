//! Whatever comes from the network: the session ends in words, nothing is settled by it, and nothing panics.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;

use bytes::BytesMut;

use super::scripted::{self, connack};
use super::*;
use crate::broker::mqtt::Protocol;
use crate::broker::mqtt::decode::{self, LARGEST};

/// Enough chance for a test, from a seed that it can print.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        Dice(RandomState::new().build_hasher().finish())
    }

    /// [SplitMix64](https://prng.di.unimi.it/splitmix64.c).
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % sides
    }
}

/// Packets that a broker sends, to be spoiled.
const PACKETS: [&[u8]; 8] = [
    &[0x20, 17, 0, 0, 14, 0x21, 0, 20, 0x22, 0, 10, 0x24, 1, 0x25, 0, 0x27, 0, 0, 1],
    &[0x20, 12, 0, 0x86, 9, 0x1f, 0, 2, b'n', b'o', 0x26, 0, 0, 0],
    &[0x20, 2, 0, 0],
    &[0x40, 15, 0, 1, 0x97, 11, 0x26, 0, 1, b'a', 0, 0, 0x1f, 0, 2, b'n', b'o'],
    &[0x50, 3, 0, 9, 0x95],
    &[0x70, 2, 0, 1],
    &[0xD0, 0],
    &[0xE0, 9, 0x8E, 7, 0x1f, 0, 2, b'n', b'o', 0x11, 0],
];

#[test]
fn no_bytes_make_the_decoder_panic_or_keep_more_than_a_packet() {
    let mut dice = Dice::new();
    let seed = dice.0;
    for round in 0..50_000 {
        let mut bytes = BytesMut::new();
        for _ in 0..1 + dice.roll(3) {
            let mut packet = PACKETS[dice.roll(PACKETS.len())].to_vec();
            for _ in 0..dice.roll(4) {
                let at = dice.roll(packet.len());
                packet[at] = dice.roll(256) as u8;
            }
            packet.truncate(packet.len() - dice.roll(2) * dice.roll(packet.len()));
            bytes.extend(packet);
        }
        let protocol = [Protocol::V5, Protocol::V311][dice.roll(2)];
        let decoded = std::panic::catch_unwind(move || {
            while let Ok(Some(_)) = decode::next(&mut bytes, protocol) {}
            assert!(bytes.len() <= LARGEST);
        });
        assert!(decoded.is_ok(), "round {round} of seed {seed:#x}");
    }
}

#[test]
fn a_peer_that_talks_nonsense_ends_the_session_in_words() {
    let nonsense: [&[u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x15, 3, 3, 0, 2, 2, 40],
        &[0; 64],
        &[0x40, 1, 7],
        &[0x30, 0xff, 0xff, 0xff, 0x7f],
    ];
    for (n, bytes) in nonsense.into_iter().enumerate() {
        for stands in [false, true] {
            let broker = scripted::broker(move |listener| {
                let mut peer = scripted::Peer::accept(&listener);
                peer.read().expect("CONNECT");
                if stands {
                    peer.write(&connack(&[]));
                    peer.publish();
                }
                let _ = peer.stream.write_all(bytes);
                peer.read_to_end();
            });
            let mut forwarder = Forwarder::new(settings(broker.port));
            forwarder.connect();
            if stands {
                forwarder.wait("a session", |f| f.limits.is_some());
                forwarder.send([(1, Message::text("t", "1"))]);
            }
            let down = forwarder.wait_down();
            let said = words(&down);
            assert!(matches!(down, Down::Unreachable(_) | Down::Refused(_)), "{n}: {down:?}");
            assert!(!said.contains("panicked"), "{n}: {said}");
            if n == 1 {
                assert!(said.contains("TLS"), "{said}");
            }
            assert_eq!(forwarder.count(&Outcome::Acknowledged), 0, "{n}");
            broker.join();
        }
    }
}

/// Words that would forge a line of a log, and upset a terminal.
const SPEECH: &str = "no such luck\r\n2026-01-01T00:00:00Z ERROR \u{1b}[31mforged\u{7f}\u{202e}\0 ";

/// A packet of 10 kB: `before`, and the [`SPEECH`] with a long tail as its only property.
fn speech(header: u8, before: &[u8], property: u8) -> Vec<u8> {
    let text = SPEECH.as_bytes().iter().chain(std::iter::repeat(&b'a')).take(10_000);
    let varint = |length: usize| [length as u8 | 0x80, (length >> 7) as u8];
    let mut properties = vec![property];
    properties.extend(10_000_u16.to_be_bytes());
    properties.extend(text);
    let mut body = before.to_vec();
    body.extend(varint(properties.len()));
    body.extend(properties);
    let mut packet = vec![header];
    packet.extend(varint(body.len()));
    packet.extend(body);
    packet
}

fn assert_fit_for_a_log(said: &str) {
    assert!(said.contains("no such luck"), "{said}");
    assert!(said.len() < 600, "{} bytes", said.len());
    let odd = said.chars().find(|c| c.is_control() || *c == '\u{202e}');
    assert_eq!(odd, None, "{said:?}");
}

#[test]
fn what_a_broker_says_is_cut_and_becomes_one_line() {
    let (reason_string, server_reference) = (0x1f, 0x1c);
    for connack in [speech(0x20, &[0, 0x87], reason_string), speech(0x20, &[0, 0x9d], server_reference)] {
        let broker = scripted::session(connack, |mut peer| peer.read_to_end());
        let mut forwarder = Forwarder::new(settings(broker.port));
        forwarder.connect();
        assert_fit_for_a_log(&words(&forwarder.wait_down()));
        broker.join();
    }

    let broker = scripted::session(connack(&[]), move |mut peer| {
        let [high, low] = peer.publish().id().to_be_bytes();
        peer.write(&speech(0x40, &[high, low, 0x87], reason_string));
        peer.write(&speech(0xE0, &[0x8b], reason_string));
        peer.read_to_end();
    });
    let mut forwarder = Forwarder::up(settings(broker.port));
    forwarder.send([(1, Message::text("t", "1"))]);
    assert_fit_for_a_log(&words(&forwarder.wait_down()));
    assert_fit_for_a_log(&forwarder.refusal(1).reason);
    broker.join();
}
