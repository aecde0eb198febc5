//! Campaigns: the workload (`examples/workload/`), or the outbox itself, in a world that fails, thousands of times over,
//! and judged from outside. Each has its file or folder, where it says what happens in it and what must hold.
//!
//! ```console
//! $ scripts/prove kills --count 1500
//! ```
//!
//! builds what is needed and runs one. Each prints its seed, and what went wrong with the command that plays it again.

mod args;
mod arrivals;
mod audit;
mod bugs;
mod card_cuts;
mod cargo;
mod clock;
mod disk;
mod flips;
mod kills;
mod offline;
mod power;
mod store;
mod workload;

#[path = "../support/card.rs"]
mod card;
#[path = "../support/chance.rs"]
mod chance;
#[path = "../support/device.rs"]
mod device;
#[path = "../support/faults.rs"]
mod faults;
#[path = "../support/mosquitto.rs"]
mod mosquitto;
#[path = "../support/proxy/mod.rs"]
mod proxy;
#[path = "../support/scripted.rs"]
mod scripted;
#[path = "../support/subscriber.rs"]
mod subscriber;
#[path = "../support/clock.rs"]
mod wall_clock;

use std::panic;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::args::Args;

/// Far beyond what any of this takes, the slowest machine included.
const SOON: Duration = Duration::from_secs(60);

/// As a program ends whose main thread panics.
const PANICKED: u8 = 101;

/// What a campaign came to.
pub enum Verdict {
    /// Every promise was kept; what was tried, in words with figures.
    Kept(String),
    /// What was broken, and how it is seen again. The first few say it all.
    Broken(Vec<String>),
    /// Why it cannot run here.
    Skipped(String),
}

/// One of them.
struct Campaign {
    name: &'static str,
    about: &'static str,
    /// How many of what it does: in the short form, and in the full one.
    counts: (&'static str, u64, u64),
    run: fn(&Args) -> Verdict,
}

/// In the order of tests/README.md.
const CAMPAIGNS: &[Campaign] = &[
    store::CAMPAIGN,
    power::CAMPAIGN,
    card_cuts::CAMPAIGN,
    kills::CAMPAIGN,
    disk::CAMPAIGN,
    clock::CAMPAIGN,
    offline::CAMPAIGN,
    flips::CAMPAIGN,
    bugs::CAMPAIGN,
];

fn main() -> ExitCode {
    env_logger::init();
    let (campaign, args) = match Args::parse(CAMPAIGNS) {
        Ok(Some(wanted)) => wanted,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("campaigns: {why}; --help tells more");
            return ExitCode::from(2);
        }
    };
    println!("{}: {} {}, seed {}", campaign.name, args.count, campaign.counts.0, args.seed);
    let begun = Instant::now();
    let verdict = match panic::catch_unwind(|| (campaign.run)(&args)) {
        Ok(verdict) => verdict,
        // Of the campaign, or of something that it needs: nothing is known of what it tries.
        Err(_) => {
            println!("{}: it panicked, see above; again: {}", campaign.name, args.again(campaign.name));
            return ExitCode::from(PANICKED);
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    match verdict {
        Verdict::Kept(what) => println!("{}: KEPT in {seconds:.1} s, seed {}: {what}", campaign.name, args.seed),
        Verdict::Skipped(why) => println!("{}: SKIPPED: {why}", campaign.name),
        Verdict::Broken(what) => {
            for broken in what.iter().take(args::TOLD) {
                println!("{}: BROKEN: {broken}", campaign.name);
            }
            println!("{}: {} in {seconds:.1} s; again: {}", campaign.name, what.len(), args.again(campaign.name));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
