//! Links and brokers that break by themselves: whatever was in flight, nobody is to blame.

use std::time::Duration;

use edge_outbox::{Message, Ordering, QoS, Settings};

use super::{House, PROTOCOLS, assert_in_order, at_the_same_time, messages, ms, quick, with_protocols};
use crate::scripted::{Cut, Manner, Reaction, Script};

type Life = Box<dyn FnMut() -> Option<(Duration, Manner)> + Send>;

/// Lives of sessions that end by chance, a seeded series, in each of these manners by turns.
fn by_chance(seed: u64, mean: Duration, manners: &'static [Manner]) -> Life {
    let (mut state, mut manners) = (seed, manners.iter().copied().cycle());
    Box::new(move || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64;
        Some((mean.mul_f64(-(1.0 - unit).ln()), manners.next()?))
    })
}

#[test]
fn a_link_that_breaks_by_chance_parks_nothing() {
    at_the_same_time(with_protocols([1, 2, 3]), |(protocol, seed)| {
        let life = by_chance(seed, ms(60), &[Manner::Polite, Manner::Mute, Manner::Reset]);
        let script = Script { life, latency: ms(10), rate: Some(60_000), ..Script::default() };
        // in strict order nothing may pass a message that looks suspicious, so the order of arrival can be told
        let settings = Settings { ordering: Ordering::Strict, window: 20, ..quick() };
        let house = House::new(protocol, settings, script);
        house.enqueue(messages(400, &[]));
        let record = house.settles(400, &[]);
        assert_in_order(&record);
        assert!(record.cuts > 20, "the link broke {} times only", record.cuts);
    });
}

#[test]
fn a_broker_that_hangs_up_on_every_third_message_whatever_it_is_parks_nothing() {
    at_the_same_time(with_protocols([Manner::Polite, Manner::Mute]), |(protocol, manner)| {
        let mut count = 0;
        let judge = Box::new(move |_: &_| {
            count += 1;
            if count % 3 == 0 { Reaction::Cut(Cut::at_once(manner)) } else { Reaction::Take }
        });
        let house = House::new(protocol, quick(), Script { judge, ..Script::default() });
        house.enqueue(messages(300, &[]));
        let record = house.settles(300, &[]);
        assert!(record.cuts > 20, "the link broke {} times only", record.cuts);
    });
}

/// It takes so long that the link nearly always breaks on it, so it looks like the one to blame.
#[test]
fn a_large_message_that_a_flapping_link_nearly_always_breaks_on_is_never_parked() {
    at_the_same_time(with_protocols([1, 2, 3]), |(protocol, seed)| {
        let script =
            Script { life: by_chance(seed, ms(80), &[Manner::Mute]), rate: Some(100_000), ..Script::default() };
        let house = House::new(protocol, quick(), script);
        // 200 ms of the line, beside 5 ms for each of the others
        house.enqueue([large(0, 20_000)].into_iter().chain((1..150).map(|n| large(n, 500))));
        let record = house.settles(150, &[]);
        assert!(record.cuts > 10, "the link broke {} times only", record.cuts);
    });
}

/// Sessions break, and some of them without a word. At 4 KiB/s a large message takes longer than `ack_timeout`: it
/// passes since the time that its bytes need at the slowest rate promised comes on top.
#[test]
fn a_slow_link_with_large_messages_makes_progress_through_cuts_and_timeouts_and_parks_nothing() {
    at_the_same_time(PROTOCOLS, |protocol| {
        let mut lives = [(800, Manner::Mute), (1_000, Manner::Silent), (2_500, Manner::Reset)].into_iter().cycle();
        let life = Box::new(move || lives.next().map(|(millis, manner)| (ms(millis), manner)));
        let script = Script { life, rate: Some(4 * 1024), ..Script::default() };
        let settings = Settings { ack_timeout: Duration::from_secs(1), window_bytes: 1024, ..quick() };
        let house = House::new(protocol, settings, script);
        house.enqueue((0..40).map(|n| large(n, if n % 20 == 5 { 6 * 1024 } else { 100 })));
        let record = house.settles(40, &[]);
        assert!(record.cuts > 2, "the link broke {} times only", record.cuts);
    });
}

fn large(number: usize, size: usize) -> Message {
    let name = format!("{number} ");
    Message::text("plain", format!("{name}{}", ".".repeat(size - name.len()))).with_qos(QoS::AtLeastOnce)
}

#[test]
fn a_broker_that_lets_everybody_in_and_takes_nothing_for_a_while_parks_nothing() {
    at_the_same_time(with_protocols([2, 40]), |(protocol, count)| {
        let judge = Box::new(|_: &_| Reaction::Cut(Cut::at_once(Manner::Mute)));
        let house = House::new(protocol, quick(), Script { judge, ..Script::default() });
        house.enqueue(messages(count, &[]));
        // more than it takes to find one culprit of two messages, the strikes of the other one included
        house.broker.wait_for("cuts", |record| record.cuts >= 17);
        house.broker.rewrite(|script| script.judge = Box::new(|_| Reaction::Take));
        house.settles(count, &[]);
    });
}
