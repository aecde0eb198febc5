//! The dispatcher in a world that goes wrong: a table, a disk that forgets, an adapter, a broker with moods.
//!
//! Each schedule draws its world from a seed: which faults there are and how often, how large everything may grow, who
//! commits what and when. Faults last for a while; after that the world is as it should be, and everything has to be
//! settled. After every step the promises of `docs/design.md` are checked.
//!
//! A schedule that fails prints its seed, the command that plays it again, and the end of its story.
//! `EDGE_OUTBOX_SEED=123 cargo test --lib simulation -- --nocapture` tells the whole story of one;
//! `EDGE_OUTBOX_SCHEDULES=1000000` plays more of them.

mod broker;
mod chance;
pub(super) mod checks;
mod plan;
mod run;
pub(super) mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use run::{Run, Tally};

const SCHEDULES: u64 = 100_000;
/// Lines of the story that a failure tells.
const LINES: usize = 200;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; a whole number is wanted")))
}

/// Plays one schedule; a panic is a failure like any other.
fn play(run: &mut Run) -> Result<Tally, String> {
    catch_unwind(AssertUnwindSafe(|| run.play())).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(format!("panic: {}", said.or(panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default()))
    })
}

fn tell(seed: u64, lines: usize) -> Result<Tally, String> {
    let mut run = Run::new(seed, true);
    let result = play(&mut run);
    let trace = run.trace.take().unwrap_or_default();
    println!("{}", trace[..trace.len().min(1)].join("\n"));
    println!("{}", trace[trace.len().saturating_sub(lines).max(1.min(trace.len()))..].join("\n"));
    result
}

#[test]
fn every_schedule_of_faults_keeps_the_promises() {
    if let Some(seed) = number("EDGE_OUTBOX_SEED") {
        let result = tell(seed, usize::MAX);
        println!("{result:?}");
        return assert!(result.is_ok(), "schedule {seed} breaks {}", result.unwrap_err());
    }
    let schedules = number("EDGE_OUTBOX_SCHEDULES").unwrap_or(SCHEDULES);
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let worker = || {
        let (mut sum, mut failed) = (Tally::default(), None);
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= schedules {
                break;
            }
            match play(&mut Run::new(seed, false)) {
                Ok(tally) => sum.add(&tally),
                Err(why) => {
                    stop.store(true, Ordering::Relaxed);
                    failed = Some((seed, why));
                }
            }
        }
        (sum, failed)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(2, |n| n.get());
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker catches the panics of its schedules")).collect()
    });
    let mut sum = Tally::default();
    results.iter().for_each(|(tally, _)| sum.add(tally));
    if let Some((seed, why)) = results.into_iter().filter_map(|(_, failed)| failed).min() {
        let _ = tell(seed, LINES);
        panic!(
            "schedule {seed} breaks {why}\nreplay: EDGE_OUTBOX_SEED={seed} cargo test --lib simulation -- --nocapture"
        );
    }
    println!("{schedules} schedules: {sum:?}");
    let tried = sum.sent > 0 && (schedules < 10_000 || sum.lives > 0 && sum.parked_by_guard > 0);
    assert!(tried, "the schedules did not try what they are there for");
}
