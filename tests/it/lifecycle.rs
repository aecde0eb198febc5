//! How an outbox ends, and who goes on.
//!
//! Whatever hangs or breaks, a shutdown keeps to its time and a panic is told to everybody. Where two forwarders have
//! one database, one works and the other takes over when the first is gone, however it went.

use std::collections::VecDeque;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::in_process::Unsubscribed;
use edge_outbox::broker::{Broker, Delivery, InProcess, Limits, Link, Refusal, Verdict};
use edge_outbox::rusqlite::TransactionBehavior;
use edge_outbox::{Error, LinkState, Message, Outbox, Role, Settings, Storage};

use crate::child::{Child, say, wait_for_cue};
use crate::device::{
    Device, SOON, broker, enqueue, eventually, next, numbered, quick, said, status_of, take, value, wait_for_status,
};

/// What a busy machine may add to a bound.
const SLACK: Duration = Duration::from_secs(10);

#[test]
fn a_shutdown_waits_for_acknowledgements_no_longer_than_it_may() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, numbered("t", 0..5));
    let held: Vec<_> = (0..5).map(|_| next(&everything)).collect();
    let begun = Instant::now();
    outbox.shutdown(Duration::from_secs(1)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
    assert_eq!(outbox.status().role, Role::Stopped);
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'PENDING'", []), 5);
    drop(held);
}

#[test]
fn a_shutdown_writes_down_what_is_acknowledged_meanwhile() {
    let device = Device::new();
    let (broker, everything) = broker();
    let settings = Settings { settle_after: Duration::from_secs(60), ..quick() };
    let outbox = device.open_with(settings, broker);
    enqueue(&outbox, numbered("t", 0..5));
    let held: Vec<_> = (0..5).map(|_| next(&everything)).collect();
    thread::scope(|scope| {
        let ends = scope.spawn(|| outbox.shutdown(SOON));
        held.into_iter().for_each(|arrival| arrival.acknowledge());
        ends.join().unwrap().unwrap();
    });
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []), 5);
    assert_eq!(value::<i64>(&device.sql(), "SELECT position FROM outbox_state", []), 5);
}

#[test]
fn a_shutdown_keeps_its_time_while_somebody_else_has_the_lock() {
    let device = Device::new();
    let (broker, everything) = broker();
    let settings = Settings { settle_after: Duration::from_secs(60), ..quick() };
    let outbox = device.open_with(settings, broker.clone());
    enqueue(&outbox, numbered("t", 0..5));
    (0..5).for_each(|_| drop(take(&everything)));
    assert!(broker.wait_until(SOON, |counts| counts.acknowledged == 5));
    let mut other = device.sql();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let begun = Instant::now();
    let answer = outbox.shutdown(Duration::from_secs(1));
    assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
    assert!(matches!(answer, Ok(()) | Err(Error::TimedOut { .. })), "{answer:?}");
    outbox.shutdown(SOON).unwrap(); // it has come to its end, while the lock was held
    drop(lock);
    drop(outbox);
    // What could not be written comes once more, and is not lost.
    let outbox = device.open(broker);
    for number in 0..5 {
        let arrival = next(&everything);
        assert_eq!((said(&arrival), arrival.possible_duplicate), (number.to_string(), true));
        arrival.acknowledge();
    }
    outbox.flush(SOON).unwrap();
}

#[test]
fn a_lock_that_is_held_is_seen_in_the_status_and_settling_goes_on_afterwards() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("t", "p")]);
    let arrival = next(&everything);
    let mut other = device.sql();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    arrival.acknowledge();
    wait_for_status(&outbox, "the lock", |status| status.storage == Storage::Busy);
    drop(lock);
    outbox.flush(SOON).unwrap();
    wait_for_status(&outbox, "the end of it", |status| status.storage == Storage::Ok);
    assert_eq!(status_of(&other, 1), "SENT");
}

#[test]
fn dropping_the_last_clone_stops_it_and_does_not_wait_long() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("t", "p")]);
    let held = next(&everything);
    let clone = outbox.clone();
    drop(outbox);
    enqueue(&clone, [Message::text("t", "q")]);
    assert_eq!(take(&everything), "q");
    let begun = Instant::now();
    drop(clone);
    assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
    drop(held);
}

#[test]
fn an_adapter_that_never_answers_does_not_hold_up_a_shutdown() {
    let device = Device::new();
    let outbox = device.open(Mute::default());
    enqueue(&outbox, numbered("t", 0..5));
    wait_for_status(&outbox, "the role", |status| status.role == Role::Active);
    let begun = Instant::now();
    let answer = outbox.shutdown(Duration::from_secs(1));
    assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
    assert!(matches!(answer, Ok(()) | Err(Error::TimedOut { .. })), "{answer:?}");
    eventually("the end of the thread", || outbox.status().role == Role::Stopped);
}

/// Takes everything and says nothing, not even that it ends.
#[derive(Default)]
struct Mute {
    link: Option<Link>,
    held: Vec<Delivery>,
}

impl Broker for Mute {
    fn connect(&mut self, link: Link) {
        link.up(Limits::UNLIMITED);
        self.link = Some(link);
    }
    fn send(&mut self, queue: &mut VecDeque<Delivery>) {
        self.held.extend(queue.drain(..));
    }
    fn disconnect(&mut self, _: Instant) {}
}

#[test]
fn after_a_shutdown_messages_are_kept_and_calls_say_that_it_stopped() {
    let device = Device::new();
    let (broker, _everything) = broker();
    let outbox = device.open(broker.clone());
    outbox.shutdown(SOON).unwrap();
    outbox.shutdown(SOON).unwrap();
    enqueue(&outbox, [Message::text("t", "later")]);
    assert_eq!(outbox.stats().unwrap().pending, 1);
    assert!(matches!(outbox.flush(SOON), Err(Error::Stopped)));
    assert!(matches!(outbox.pause(), Err(Error::Stopped)));
    assert!(matches!(outbox.resume(), Err(Error::Stopped)));
    assert_eq!(outbox.status().failed, None);
    assert_eq!(broker.counts().received, 0);
}

#[test]
fn an_outbox_without_a_broker_writes_and_says_that_it_does_not_forward() {
    let device = Device::new();
    let writer = device.open_writer();
    assert_eq!(writer.status().role, Role::Writer);
    enqueue(&writer, [Message::text("t", "p")]);
    assert!(matches!(writer.flush(SOON), Err(Error::NoBroker)));
    assert!(matches!(writer.pause(), Err(Error::NoBroker)));
    assert!(matches!(writer.resume(), Err(Error::NoBroker)));
    writer.shutdown(SOON).unwrap();
    // Another one forwards what it writes.
    let (broker, everything) = broker();
    let _forwarder = device.open(broker);
    enqueue(&writer, [Message::text("t", "q")]);
    assert_eq!([take(&everything), take(&everything)], ["p", "q"]);
}

/// Where the adapter panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Panics {
    Connecting,
    Sending,
    Disconnecting,
}

struct Clumsy(InProcess, Panics);

impl Clumsy {
    fn at(&self, point: Panics) {
        assert!(self.1 != point, "the adapter stumbled while {point:?}");
    }
}

impl Broker for Clumsy {
    fn connect(&mut self, link: Link) {
        self.at(Panics::Connecting);
        self.0.connect(link);
    }
    fn send(&mut self, queue: &mut VecDeque<Delivery>) {
        if !queue.is_empty() {
            self.at(Panics::Sending);
        }
        self.0.send(queue);
    }
    fn disconnect(&mut self, until: Instant) {
        self.at(Panics::Disconnecting);
        self.0.disconnect(until);
    }
}

#[track_caller]
fn everybody_hears(outbox: &Outbox, words: &str) {
    wait_for_status(outbox, "the panic", |status| status.failed.as_ref().is_some_and(|said| said.contains(words)));
    let told = |answer: Result<(), Error>| {
        assert!(matches!(&answer, Err(Error::Panicked(said)) if said.contains(words)), "{answer:?}");
    };
    told(outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("t", "p"))).map(drop));
    let mut connection = outbox.connection().unwrap();
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    told(outbox.enqueue(&tx, &Message::text("t", "p")).map(drop));
    drop(tx);
    told(outbox.flush(SOON));
    told(outbox.pause());
    told(outbox.resume());
    told(outbox.shutdown(SOON));
}

#[test]
fn a_panic_of_the_adapter_is_told_to_everybody_and_its_messages_are_kept() {
    for point in [Panics::Connecting, Panics::Sending, Panics::Disconnecting] {
        let device = Device::new();
        let (broker, _everything) = broker();
        let outbox = device.open(Clumsy(broker, point));
        // Too late for one that panics at once, which is told here already.
        let written = outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("t", "kept")));
        if point == Panics::Disconnecting {
            wait_for_status(&outbox, "the role", |status| status.role == Role::Active);
            outbox.pause().unwrap();
        }
        everybody_hears(&outbox, &format!("stumbled while {point:?}"));
        drop(outbox);
        if written.is_ok() {
            assert_eq!(status_of(&device.sql(), 1), "PENDING", "{point:?}");
        }
        // Opened again it goes on.
        let (broker, everything) = self::broker();
        let outbox = device.open(broker);
        enqueue(&outbox, [Message::text("t", "after")]);
        let mut arrived = vec![take(&everything)];
        if written.is_ok() {
            arrived.push(take(&everything));
        }
        assert_eq!(arrived.last().unwrap(), "after", "{point:?}");
    }
}

#[test]
fn a_panic_of_the_programs_own_hook_is_told_to_everybody() {
    let device = Device::new();
    let (broker, _everything) = broker();
    broker.refuse("bad", Refusal::new(Verdict::Never, "no"), 1).unwrap();
    let outbox = Outbox::builder(device.database())
        .settings(quick())
        .broker(broker)
        .on_failed(|failed| panic!("no idea what to do with {}", failed.topic))
        .open()
        .unwrap();
    enqueue(&outbox, [Message::text("bad", "p")]);
    everybody_hears(&outbox, "no idea what to do with bad");
    assert_eq!(status_of(&device.sql(), 1), "FAILED", "it is told after it stands there");
}

#[test]
fn a_flush_that_waits_hears_of_a_panic() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = Outbox::builder(device.database())
        .settings(quick())
        .broker(broker)
        .on_failed(|_| panic!("stumbled"))
        .open()
        .unwrap();
    enqueue(&outbox, numbered("t", 0..2));
    let (first, second) = (next(&everything), next(&everything));
    thread::scope(|scope| {
        let waits = scope.spawn(|| outbox.flush(SOON));
        first.reject(Refusal::new(Verdict::Never, "no"));
        let answer = waits.join().unwrap();
        assert!(matches!(&answer, Err(Error::Panicked(said)) if said == "stumbled"), "{answer:?}");
    });
    drop(second);
}

/// Two forwarders for one database, of which the second stands by.
fn pair(device: &Device) -> (Outbox, Outbox, edge_outbox::broker::in_process::Subscriber) {
    let (broker, everything) = broker();
    let first = device.open(broker.clone());
    wait_for_status(&first, "the first works", |status| status.role == Role::Active);
    let second = device.open(broker);
    enqueue(&second, [Message::text("t", "by the first")]);
    assert_eq!(take(&everything), "by the first");
    first.flush(SOON).unwrap();
    assert_eq!(second.status().role, Role::Standby);
    (first, second, everything)
}

#[track_caller]
fn takes_over(second: &Outbox, everything: &edge_outbox::broker::in_process::Subscriber) {
    wait_for_status(second, "the second takes over", |status| status.role == Role::Active);
    enqueue(second, [Message::text("t", "by the second")]);
    assert_eq!(take(everything), "by the second");
    second.flush(SOON).unwrap();
}

#[test]
fn a_second_forwarder_takes_over_when_the_first_is_shut_down() {
    let device = Device::new();
    let (first, second, everything) = pair(&device);
    first.shutdown(SOON).unwrap();
    takes_over(&second, &everything);
}

#[test]
fn a_second_forwarder_takes_over_when_the_first_is_dropped() {
    let device = Device::new();
    let (first, second, everything) = pair(&device);
    drop(first);
    takes_over(&second, &everything);
}

#[test]
fn a_second_forwarder_takes_over_when_the_first_panics() {
    let device = Device::new();
    let (broker, everything) = broker();
    let first = device.open(Clumsy(broker.clone(), Panics::Sending));
    wait_for_status(&first, "the first works", |status| status.role == Role::Active);
    let second = device.open(broker);
    enqueue(&second, [Message::text("t", "by the second")]);
    assert_eq!(take(&everything), "by the second");
    assert!(first.status().failed.is_some());
    assert_eq!(second.status().failed, None);
}

#[test]
fn a_flush_on_the_one_that_stands_by_waits_for_the_other() {
    let device = Device::new();
    let (_first, second, everything) = pair(&device);
    enqueue(&second, [Message::text("t", "p")]);
    let arrival = next(&everything);
    let answer = second.flush(Duration::from_millis(50));
    assert!(matches!(answer, Err(Error::TimedOut { .. })), "{answer:?}");
    thread::scope(|scope| {
        let waits = scope.spawn(|| second.flush(SOON));
        arrival.acknowledge();
        waits.join().unwrap().unwrap();
    });
    assert_eq!(status_of(&device.sql(), 2), "SENT");
}

#[test]
fn one_that_stands_by_ends_at_once_when_it_is_told_to() {
    let device = Device::new();
    let (_first, second, _everything) = pair(&device);
    second.shutdown(SOON).unwrap();
    assert_eq!(second.status().role, Role::Stopped);
}

/// The part of a process that forwards, to nobody in particular, until it is killed.
pub fn forwards(database: &Path) {
    let broker = InProcess::builder().unsubscribed(Unsubscribed::Acknowledge).build();
    let outbox = Outbox::builder(database).settings(quick()).broker(broker).open().unwrap();
    wait_for_status(&outbox, "it works", |status| status.role == Role::Active);
    say("forwarding");
    wait_for_cue();
}

#[test]
fn a_second_forwarder_takes_over_when_the_process_of_the_first_is_killed() {
    let device = Device::new();
    let mut victim = Child::play("lifecycle::forwards", &device.database());
    assert_eq!(victim.hear(), "forwarding");
    let (broker, everything) = broker();
    let second = device.open(broker);
    enqueue(&second, [Message::text("t", "by the first")]);
    second.flush(SOON).unwrap();
    assert_eq!(second.status().role, Role::Standby);
    victim.kill();
    takes_over(&second, &everything);
}

/// The part of a process that is killed in the middle of a transaction.
pub fn dies_in_a_transaction(database: &Path) {
    let outbox = Outbox::builder(database).settings(quick()).open().unwrap();
    enqueue(&outbox, [Message::text("t", "committed")]);
    let _ = outbox.transaction(|tx| -> Result<(), Error> {
        outbox.enqueue(tx, &Message::text("t", "never committed"))?;
        say("in the middle");
        wait_for_cue();
        Ok(())
    });
}

#[test]
fn a_process_killed_in_a_transaction_leaves_what_it_had_committed_and_no_more() {
    let device = Device::new();
    let mut victim = Child::play("lifecycle::dies_in_a_transaction", &device.database());
    assert_eq!(victim.hear(), "in the middle");
    victim.kill();
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    enqueue(&outbox, [Message::text("t", "after")]);
    assert_eq!([take(&everything), take(&everything)], ["committed", "after"]);
    outbox.flush(SOON).unwrap();
    assert_eq!(broker.counts().received, 2);
}

#[test]
fn a_shutdown_after_a_pause_keeps_its_own_time() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("t", "p")]);
    let held = next(&everything);
    outbox.pause().unwrap();
    wait_for_status(&outbox, "the pause", |status| status.link == LinkState::Paused);
    let begun = Instant::now();
    outbox.shutdown(Duration::from_secs(1)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
    drop(held);
}

#[test]
fn a_shutdown_without_a_limit_waits_for_what_is_in_flight() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("t", "p")]);
    let held = next(&everything);
    thread::scope(|scope| {
        let ends = scope.spawn(|| outbox.shutdown(Duration::MAX));
        held.acknowledge();
        ends.join().unwrap().unwrap();
    });
    assert_eq!(status_of(&device.sql(), 1), "SENT");
}
