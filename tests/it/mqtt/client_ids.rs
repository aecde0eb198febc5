//! Two outboxes at one broker.

use std::time::{Duration, Instant};

use edge_outbox::{Backoff, LinkState, Message, Settings};

use super::{House, PROTOCOLS, at, numbered, quick, until_all};
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;

/// Sessions that it takes for the backoff to reach its longest wait, and sessions that are timed from then on.
const WARM_UP: usize = 4;
const MEASURED: usize = 10;

/// A broker ends the older of two sessions with the same client id, so these two throw each other out for ever. What
/// they must not do is that as fast as they can, or lose anything over it.
#[test]
fn two_outboxes_of_the_same_client_id_say_that_they_are_thrown_out_and_take_it_slowly_and_lose_nothing() {
    let longest = Duration::from_millis(200);
    let settings = Settings { reconnect: Backoff { first: longest / 4, longest }, ..quick() };
    for protocol in PROTOCOLS {
        let broker = Mosquitto::start();
        let subscriber = broker.subscribe("#");
        let proxies = [(), ()].map(|()| Proxy::to(broker.port()));
        let twin = |nth: usize| at(proxies[nth].port()).with_protocol(protocol).with_client_id("twin");
        let first = House::new(twin(0), settings.clone());
        first.wait_for_session();
        let second = House::new(twin(1), settings.clone());
        // any broker of MQTT 3.1.1, and mosquitto 2.0.11 of MQTT 5 too, closes the connection without a word
        let why = first.wait_for_words("the broker");
        let named = why.contains("same client id") || why.contains("closed the connection") || why.contains("broke");
        assert!(named, "{why}");
        assert!(broker.log().contains("Client twin already connected, closing old connection."), "{}", broker.log());

        let until = |count: usize| {
            proxies[0].wait_for("sessions", |traffic| (traffic.connections >= count).then_some(()));
        };
        until(WARM_UP);
        let since = Instant::now();
        until(WARM_UP + MEASURED);
        // by chance each waits for half of the longest wait: for a fifth of that, all together, once in 4 million times
        assert!(since.elapsed() > longest * MEASURED as u32 / 10, "{:?}", since.elapsed());

        for (house, name) in [(&first, "first"), (&second, "second")] {
            house.enqueue((0..500).map(|n| Message::text("t", format!("{name} {n}"))));
        }
        first.flush();
        second.flush();
        until_all(&subscriber, 1_000);
        assert_eq!((first.rows("SENT"), second.rows("SENT")), (500, 500));
    }
}

/// What a broker of MQTT 5 should say then, and newer ones do. With 1 to 2 s until the next try, the words can be read.
#[test]
fn an_outbox_that_is_thrown_out_for_its_client_id_says_so_and_comes_back_by_itself() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let proxy = Proxy::to(broker.port());
    let reconnect = Backoff { first: Duration::from_millis(5), longest: Duration::from_secs(2) };
    let house = House::new(at(proxy.port()), Settings { reconnect, ..quick() });
    house.wait_for_session();
    proxy.disconnect(0x8e);
    house.wait_for_words("another client connected with the same client id");
    assert!(matches!(house.outbox.status().link, LinkState::Refused { .. }));
    house.enqueue(numbered(0..100));
    house.flush();
    assert_eq!(until_all(&subscriber, 100).len(), 100);
}

#[test]
fn two_outboxes_of_one_machine_have_client_ids_of_their_own_by_default_and_leave_each_other_alone() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let houses = [(), ()].map(|()| House::new(at(broker.port()), quick()));
    for round in 0..10 {
        for (house, name) in houses.iter().zip(["first", "second"]) {
            house.enqueue((0..100).map(|n| Message::text("t", format!("{name} {round} {n}"))));
            house.flush();
        }
    }
    assert_eq!(until_all(&subscriber, 2_000).len(), 2_000);
    assert!(houses.iter().all(|house| house.outbox.stats().unwrap().reconnects == 0));
}
