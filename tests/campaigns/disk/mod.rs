//! Disks that fail, and disks that are full, under the workload.
//!
//! - [`calls`]: the N-th call on the files fails, once or for a while, or the process is killed in front of it;
//! - [`checkpoint`]: a sync of the log that fails where nobody is told;
//! - [`worn_out`]: a real file system whose device does not take what it is given;
//! - [`full`]: nine ways in which a disk is full.
//!
//! Whatever it is: once it is over the same process goes on by itself, sends all there is within the time promised, and
//! takes new messages; and after a kill at the end another one finds all of it in order.

mod calls;
mod checkpoint;
mod full;
mod life;
mod worn_out;

use std::time::Duration;

use crate::args::Args;
use crate::{Campaign, Verdict};

pub const CAMPAIGN: Campaign = Campaign {
    name: "disk",
    about: "calls that fail, and full disks (--only calls, worn-out, full, or one scenario)",
    counts: ("calls that fail", 200, 12_000),
    run,
};

/// What is promised for a disk that works again, or has space again.
const DRAINED_WITHIN: Duration = Duration::from_secs(12);

fn run(args: &Args) -> Verdict {
    let parts: [(&str, fn(&Args, &mut Outcome)); 4] =
        [("calls", calls::run), ("checkpoint", checkpoint::run), ("worn-out", worn_out::run), ("full", full::run)];
    let only = args.only.as_deref();
    let is_scenario = only.is_some_and(|only| full::SCENARIOS.iter().any(|scenario| scenario.name == only));
    let mut outcome = Outcome::default();
    for (name, part) in parts {
        if only.is_none_or(|only| only == name || name == "full" && is_scenario) {
            part(args, &mut outcome);
        }
    }
    for words in outcome.words.iter().chain(&outcome.skipped) {
        println!("  {words}");
    }
    let words: Vec<String> = outcome.words.iter().chain(&outcome.skipped).cloned().collect();
    match (outcome.broken.is_empty(), outcome.words.is_empty()) {
        (false, _) => Verdict::Broken(outcome.broken),
        (true, false) => Verdict::Kept(words.join("; ")),
        (true, true) if outcome.skipped.is_empty() => Verdict::Broken(vec![format!("--only {only:?}: no such part")]),
        (true, true) => Verdict::Skipped(words.join("; ")),
    }
}

/// Of all parts together.
#[derive(Default)]
struct Outcome {
    broken: Vec<String>,
    words: Vec<String>,
    skipped: Vec<String>,
}
