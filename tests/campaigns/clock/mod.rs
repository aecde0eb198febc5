//! What happened: the device has no clock of its own, or somebody sets it. While the workload writes and forwards to
//! mosquitto, over a link that is interrupted now and then, its wall clock
//!
//! - jumps every 15 ms, to any second from 1972 to 2080: that many kills; or
//! - stands still, or begins at the same second with each start: a tenth as many kills each.
//!
//! It is killed 8 to 120 ms after each start. At the end of each hundred kills the link is cut while it writes, the
//! writers rest, so that nothing but its own waits makes the outbox go on, the clock goes back to 1972, and the link heals.
//!
//! What must hold: every oracle of audit.rs; nothing is FAILED; the process that met the cut link is drained 12 s after
//! the link healed; and rows that were sent do not pile up: with a retention of 200 ms, all that were there when it was
//! drained are gone soon. The stamps in the table must show what the clock did, or nothing was proven.
//!
//! tests/clock/ asks more closely what waits and stamps do in one process, and runs with every `cargo test`; this is
//! the same promise from outside, with a tool of others, and long enough to meet rare moments.
//!
//! `--only jumps`, `stands` or `boots`; `--only ours` sets the clock without libfaketime.

mod hands;
mod round;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;

use self::hands::Hands;
use self::round::{Figures, Kind, Round};
use crate::args::Args;
use crate::chance::Chance;
use crate::{Campaign, Verdict};

pub const CAMPAIGN: Campaign = Campaign {
    name: "clock",
    about: "a wall clock that jumps by decades, stands, or begins anew with each start",
    counts: ("kills", 200, 5_000),
    run,
};

/// Kills upon one database.
const ROUND: u64 = 100;
/// Rounds at the same time.
const AT_ONCE: usize = 2;

fn run(args: &Args) -> Verdict {
    let ours = args.only.as_deref() == Some("ours");
    let name = match Hands::new(ours) {
        Ok(hands) => hands.name(),
        Err(why) => return Verdict::Skipped(why),
    };
    let plan = match plan(args) {
        Ok(plan) => Mutex::new(plan),
        Err(why) => return Verdict::Broken(vec![why]),
    };
    let results = Mutex::new((Figures::default(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(round) = plan.lock().unwrap().pop_front() else { return };
                    let (figures, mut broken) = round.play(args, ours);
                    let mut results = results.lock().unwrap();
                    results.0.add(&figures);
                    results.1.append(&mut broken);
                }
            });
        }
    });
    let (figures, broken) = results.into_inner().unwrap();
    if broken.is_empty() { Verdict::Kept(format!("{figures}, by {name}")) } else { Verdict::Broken(broken) }
}

fn plan(args: &Args) -> Result<VecDeque<Round>, String> {
    let wanted = |kind: Kind| match args.only.as_deref() {
        None | Some("ours") => true,
        Some(only) => only == kind.name(),
    };
    let mut seeds = Chance::seeded(args.seed);
    let mut plan = VecDeque::new();
    for (kind, kills) in
        [(Kind::Jumps, args.count), (Kind::Stands, args.count.div_ceil(10)), (Kind::Boots, args.count.div_ceil(10))]
    {
        let mut left = kills;
        while left > 0 {
            let round = Round { kind, kills: left.min(ROUND), seed: seeds.of(0..=usize::MAX - 1) as u64 };
            left -= round.kills;
            if wanted(kind) {
                plan.push_back(round);
            }
        }
    }
    if plan.is_empty() { Err("--only is jumps, stands, boots or ours".to_owned()) } else { Ok(plan) }
}
