//! The end of the program while the broker stands still.

use std::time::{Duration, Instant};

use edge_outbox::{Message, Settings};

use super::{House, PROTOCOLS, SOON, at, numbered, quick, until_all};
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;

#[test]
fn a_shutdown_holds_its_bound_while_the_broker_is_stalled_and_loses_nothing() {
    for protocol in PROTOCOLS {
        let broker = Mosquitto::start();
        let subscriber = broker.subscribe("#");
        let proxy = Proxy::to(broker.port());
        let settings = Settings { ack_timeout: SOON, window_bytes: 64 << 20, ..quick() };
        let house = House::new(at(proxy.port()).with_protocol(protocol), settings);
        house.wait_for_session();
        proxy.fall_silent();
        // far more than the kernel's buffers take: the client stands in the middle of a write
        let large = |n: usize| Message::text("t", format!("{n:0>60000}"));
        house.enqueue((0..200).map(large));
        house.wait_until("messages in flight", |house| house.outbox.stats().unwrap().in_flight == 200);
        let begun = Instant::now();
        let (ended, dir) = house.shutdown(Duration::from_secs(1));
        let took = begun.elapsed();
        ended.unwrap();
        assert!(took < SOON / 2, "{took:?}");

        proxy.heal();
        let house = House::again(at(proxy.port()).with_protocol(protocol), quick(), dir);
        house.flush();
        let received = until_all(&subscriber, 200);
        assert!(received.iter().all(|received| received.payload.len() == 60_000));
        assert_eq!(house.rows("SENT"), 200);
    }
}

#[test]
fn dropping_the_outbox_does_not_wait_for_a_stalled_broker() {
    for protocol in PROTOCOLS {
        let broker = Mosquitto::start();
        let proxy = Proxy::to(broker.port());
        let house = House::new(at(proxy.port()).with_protocol(protocol), Settings { ack_timeout: SOON, ..quick() });
        house.wait_for_session();
        proxy.fall_silent();
        house.enqueue(numbered(0..100));
        house.wait_until("messages in flight", |house| house.outbox.stats().unwrap().in_flight == 100);
        let begun = Instant::now();
        drop(house);
        assert!(begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
    }
}
