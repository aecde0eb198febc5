//! Whether the judge can say no: lies that must be found, before a run is believed.

use std::time::Duration;

use super::database::{Database, Plan};
use super::evidence::Evidence;
use super::tally::Tally;
use crate::args::Args;
use crate::chance::Chance;
use crate::proxy::Proxy;
use crate::workload::Reading;

/// More than are on their way at a time when a session ends, of one key in eight.
const FORGOTTEN: usize = 10;

/// How many lies there were.
///
/// # Errors
/// The lie that was not found.
pub fn run(args: &Args) -> Result<usize, String> {
    a_broker_that_acknowledges_and_forgets(args)?;
    a_network_that_is_called_healed_and_is_not(args)?;
    Ok(2 + lies_of_the_witnesses()?)
}

/// In the real world: the proxy says PUBACK, and the broker never gets the message. That is written down long before
/// the next kill, so that nothing sends it again. Several of them: one may be sent again all the same, by a program that
/// had given up the session before it heard of it (seen on a busy machine).
fn a_broker_that_acknowledges_and_forgets(args: &Args) -> Result<(), String> {
    let forgets = |proxy: &Proxy| {
        let before = proxy.look(|traffic| traffic.effects);
        proxy.refuse("biz/3", 0, FORGOTTEN);
        let forgotten = proxy.wait_for("messages to forget", |traffic| {
            (traffic.effects >= before + FORGOTTEN).then_some(traffic.published.len())
        });
        proxy.wait_for("many more", |traffic| (traffic.published.len() > forgotten + 300).then_some(()));
    };
    real(args, Duration::from_secs(60), forgets, "never arrived")
}

/// The same process must drain, so that a link which stays dead must show.
fn a_network_that_is_called_healed_and_is_not(args: &Args) -> Result<(), String> {
    let stays_dead = |proxy: &Proxy| {
        proxy.hold_acks();
        let before = proxy.look(|traffic| traffic.published.len());
        // Of this one nobody will hear.
        proxy.wait_for("a message", |traffic| (traffic.published.len() > before).then_some(()));
        proxy.fall_silent();
    };
    real(args, Duration::from_secs(1), stays_dead, "not drained")
}

/// A short chapter as a run has them, with something that nobody heals.
fn real(args: &Args, patience: Duration, sabotage: fn(&Proxy), expected: &str) -> Result<(), String> {
    let plan = Plan { protocol: "5", settle_after: 0, ..Plan::draw(&mut Chance::seeded(1), false) };
    let mut tally = Tally::default();
    let mut database = Database::new(args, &plan).impatient(patience);
    let found = database.chapter(2, &mut tally, sabotage);
    if found.iter().any(|found| found.contains(expected)) {
        return Ok(());
    }
    Err(format!("{expected:?} was to be found, and the judge says {found:?}"))
}

/// A tale in which all is well, and what would make it a lie.
fn lies_of_the_witnesses() -> Result<usize, String> {
    let truth = truth();
    if !truth.judge().is_empty() {
        return Err(format!("all is well, and the judge says {:?}", truth.judge()));
    }
    type Lie = fn(&mut Evidence);
    let lies: [(&str, Lie); 16] = [
        ("was committed, and is not in biz", |e| _ = e.stands.remove(&reading(19))),
        ("rows, up to seq", |e| _ = e.stands.remove(&reading(4))),
        ("stands in biz twice", |e| _ = e.stands.insert(Reading { id: 99, ..reading(4) })),
        ("nobody was told of", |e| e.told.committed = e.told.committed.split_off(&reading(5))),
        ("never arrived", |e| e.arrived.retain(|one| *one != reading(19))),
        ("never arrived", |e| e.arrived.retain(|one| *one != reading(4))),
        ("arrived, and is not in biz", |e| e.arrived.push(Reading { id: 21, k: 0, seq: 11 })),
        ("arrived, and is not in biz", |e| e.arrived.push(Reading { k: 0, ..reading(5) })),
        ("was sent, and is not in biz", |e| e.sent.push(Reading { id: 21, k: 0, seq: 11 })),
        ("was sent first after", |e| e.sent.swap(1, 3)),
        ("was sent first after", |e| e.sent.retain(|one| *one != reading(7))),
        ("arrived first after", |e| e.arrived.swap(2, 4)),
        ("arrived first after", |e| e.delayed.clear()),
        ("was settled, and sent again", |e| e.sent_again.push(reading(2))),
        ("damaged", |e| e.strange.extend(Reading::read("biz/1", br#"{"id":1,"k":1,"seq":2,"crc":3}"#).err())),
        ("arrived again", |e| e.arrived.extend(repeated(1_100))),
    ];
    let wire: [(&str, Lie); 1] = [("were sent again", |e| e.sent.extend(repeated(550)))];
    for (expected, lie) in lies.iter().chain(&wire) {
        let mut evidence = truth.clone();
        lie(&mut evidence);
        let found = evidence.judge();
        if !found.iter().any(|found| found.contains(expected)) {
            return Err(format!("{expected:?} was to be found, and the judge says {found:?}"));
        }
    }
    Ok(lies.len() + wire.len())
}

/// The n-th of two keys that take turns, from 1.
fn reading(n: i64) -> Reading {
    Reading { id: n, k: n % 2, seq: (n + 1) / 2 }
}

fn repeated(times: usize) -> impl Iterator<Item = Reading> {
    std::iter::repeat_n(reading(1), times)
}

/// Twenty rows, one of which was committed and not told, one shed at first; one kill, one reconnect.
fn truth() -> Evidence {
    let all: Vec<Reading> = (1..=20).map(reading).collect();
    let mut evidence = Evidence { kills: 1, writers: 1, window: 16, ..Evidence::default() };
    evidence.told.reconnects = 1;
    evidence.told.committed.extend(all[..19].iter());
    evidence.stands.extend(&all);
    evidence.sent = [&all[..12], &all[9..]].concat();
    evidence.delayed = vec![reading(10)];
    evidence.arrived = [&all[..9], &all[10..12], &all[9..]].concat();
    evidence
}
