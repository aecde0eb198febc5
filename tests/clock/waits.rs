//! Waiting goes by the clock that nobody sets. In one process, with a broker within it, under a clock that jumps.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use edge_outbox::broker::{InProcess, Refusal, Verdict};
use edge_outbox::{Backoff, Error, Message, Outbox, Settings};

use crate::SOON;
use crate::chance::Chance;
use crate::clock::Clock;
use crate::program::Program;

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn waits_are_neither_cut_short_nor_drawn_out_by_a_clock_that_jumps() {
    let Some(clock) = Clock::new() else { return };
    let (folder, chance, over) = (tempfile::tempdir().unwrap(), Chance::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| clock.jump(move || chance.next(), &over));
        let program = Program::start("waits", &clock, &folder.path().join("device.db"), 0);
        // A part that hangs is told by its own deadlines.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| program.end()));
        over.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// The part.
pub fn waits(database: &Path) {
    what_waits_for_long_goes_on_waiting(&database.with_extension("long"));
    what_waits_shortly_goes_on_soon(&database.with_extension("short"));
}

/// Returns when the clock has gone back and ahead by decades, often.
fn jumps() {
    let (mut back, mut ahead) = (0, 0);
    let mut before = SystemTime::now();
    while back < 100 || ahead < 100 {
        thread::sleep(Duration::from_micros(500));
        let now = SystemTime::now();
        match now.duration_since(before) {
            Ok(by) if by > TEN_YEARS => ahead += 1,
            Err(error) if error.duration() > TEN_YEARS => back += 1,
            _ => {}
        }
        before = now;
    }
}

fn enqueue(outbox: &Outbox, topic: &str, payload: &str) {
    outbox
        .transaction(|tx| outbox.enqueue(tx, &Message::text(topic, payload)).map(drop))
        .unwrap_or_else(|error: Error| panic!("{error}"));
}

fn what_waits_for_long_goes_on_waiting(database: &Path) {
    let broker = InProcess::builder().record(1_000).build();
    let everything = broker.subscribe("#").unwrap();
    let hours = Backoff { first: HOUR * 24, longest: HOUR * 24 };
    let settings = Settings { reconnect: hours, retry: hours, ack_timeout: HOUR, ..Settings::default() };
    let outbox = Outbox::builder(database).settings(settings).broker(broker.clone()).open().unwrap();
    broker.close_topic("closed", "not now").unwrap();
    broker.refuse("busy", Refusal::new(Verdict::Later, "not now"), usize::MAX).unwrap();
    enqueue(&outbox, "closed", "c");
    enqueue(&outbox, "busy", "b");
    assert!(broker.wait_until(SOON, |counts| counts.refused == 2));
    enqueue(&outbox, "t", "held back");
    let unanswered = everything.recv_timeout(SOON).unwrap();
    jumps();
    // The closed topic, the refused message, the one in flight: none is tried again, and the session stands.
    let counts = broker.counts();
    assert_eq!((counts.received, counts.sessions, counts.in_flight), (3, 1, 1), "{counts:?}");
    unanswered.acknowledge();

    broker.refuse_sessions("not you");
    broker.break_sessions();
    // The first try after it broke is drawn from a whole day; a second one too, so at most one of them is soon.
    let before = broker.counts().connects;
    jumps();
    let tries = broker.counts().connects - before;
    assert!(tries <= 1, "{tries} sessions were tried");
    assert_eq!(outbox.stats().unwrap().failed, 0);
    assert!(outbox.stats().unwrap().oldest_pending.is_some());
    outbox.shutdown(Duration::from_secs(5)).unwrap();
}

fn what_waits_shortly_goes_on_soon(database: &Path) {
    let broker = InProcess::builder().record(10_000).build();
    let everything = broker.subscribe("#").unwrap();
    let ms = Duration::from_millis;
    let short = Backoff { first: ms(5), longest: ms(30) };
    let settings = Settings { reconnect: short, retry: short, settle_after: ms(50), ..Settings::default() };
    let outbox = Outbox::builder(database).settings(settings).broker(broker.clone()).open().unwrap();
    for round in 0..20 {
        match round % 4 {
            0 => broker.refuse("t", Refusal::new(Verdict::Later, "not now"), 3).unwrap(),
            1 => broker.close_topic("t", "not now").unwrap(),
            2 => broker.go_offline(),
            _ => broker.refuse_sessions("not you"),
        }
        let before = broker.counts();
        enqueue(&outbox, "t", &round.to_string());
        match round % 4 {
            0 | 1 => assert!(broker.wait_until(SOON, |counts| counts.refused > before.refused)),
            2 => assert!(broker.wait_until(SOON, |counts| counts.connects > before.connects)),
            _ => broker.break_sessions(),
        }
        if round % 4 != 0 {
            broker.behave();
        }
        let arrival = everything.recv_timeout(SOON).unwrap();
        assert_eq!(arrival.message.payload.as_bytes(), round.to_string().as_bytes());
        arrival.acknowledge();
        outbox.flush(SOON).unwrap();
    }
    assert_eq!(outbox.stats().unwrap().failed, 0);
    outbox.shutdown(SOON).unwrap();
}
