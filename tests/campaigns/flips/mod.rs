//! A card flips bits and loses sectors. A database with messages to be sent stands on it, in many pages: small ones and
//! such with chains of overflow pages, with keys and headers and without, some sent, some parked, some that wait behind
//! others. One bit of the file or of its log is turned over, or a whole sector is garbled, nobody knows where. Then the
//! outbox is opened and forwards.
//!
//! What must hold: nothing arrives that is not what was written under its name, byte by byte, in its payload, topic, key,
//! headers and everything else that the checksum covers. Nothing panics, nothing hangs. What does not arrive is parked, or
//! the damage is told of: by an error at the opening, by the status, by the count of unreadable rows. Where only pages of
//! the table are damaged, whatever somebody else can read arrives all the same. Where nobody is told, SQLite itself sees no
//! such row any more (a log that is damaged ends there, for SQLite), or the outbox's own check tells.
//!
//! The controls: the same rows without checksums, as plain SQL writes them, and bits turned over in their payloads. They
//! have to arrive altered, and the judge has to say so, or it is blind.

mod judge;
#[allow(dead_code, reason = "it is read here, and written as bytes")]
#[path = "../../../src/store/tests/pages.rs"]
mod pages;
mod template;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use self::judge::judge;
use self::template::{Damage, Template};
use crate::args::Args;
use crate::chance::Chance;
use crate::{Campaign, Verdict};

/// Bits in payloads that no checksum guards.
const CONTROLS: u64 = 8;

/// What is seen this rarely is told with its numbers, to be looked at again.
const RARE: usize = 5;

/// What became of messages, and in which flips.
type Tally = BTreeMap<&'static str, Vec<u64>>;

pub const CAMPAIGN: Campaign = Campaign {
    name: "bit-flips",
    about: "bits and sectors of a database's files are damaged, and nothing is sent wrong",
    counts: ("flips", 300, 20_000),
    run,
};

/// `--only N` plays that one alone.
fn run(args: &Args) -> Verdict {
    let only = match args.only.as_deref().map(str::parse::<u64>).transpose() {
        Ok(only) => only,
        Err(_) => return Verdict::Broken(vec!["--only takes the number of a flip".to_owned()]),
    };
    let template = Template::write();
    let mut broken = controls(args, &template);
    let flips = only.map_or(0..args.count, |only| only..only + 1);
    let (next, tally, found) = (AtomicU64::new(flips.start), Mutex::new(Tally::new()), Mutex::new(Vec::new()));
    let play = || {
        loop {
            let flip = next.fetch_add(1, Ordering::Relaxed);
            if flip >= flips.end {
                return;
            }
            let mut chance = Chance::seeded(args.seed ^ flip.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let damage = Damage::at_random(&mut chance, &template);
            match judge(&template, &damage) {
                Ok(seen) => {
                    let mut tally = tally.lock().unwrap();
                    seen.into_iter().for_each(|what| tally.entry(what).or_default().push(flip));
                }
                Err(what) => found.lock().unwrap().push(format!("flip {flip} (--only {flip}), {damage}: {what}")),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(play);
        }
    });
    broken.append(&mut found.into_inner().unwrap());
    if !broken.is_empty() {
        return Verdict::Broken(broken);
    }
    let tally = tally.into_inner().unwrap();
    let told: Vec<String> = tally.into_iter().map(|(what, flips)| in_words(what, flips)).collect();
    Verdict::Kept(format!(
        "0 sent wrong in {} flips, {} messages each: {}; {CONTROLS} of {CONTROLS} controls without checksums arrived altered",
        flips.end - flips.start,
        template.due(),
        told.join(", ")
    ))
}

fn in_words(what: &str, mut flips: Vec<u64>) -> String {
    flips.sort_unstable();
    let which = if flips.len() > RARE { String::new() } else { format!(" (--only {flips:?})") };
    format!("{} {what}{which}", flips.len())
}

/// Each has to be found wrong.
fn controls(args: &Args, template: &Template) -> Vec<String> {
    let mut chance = Chance::seeded(args.seed);
    let unguarded = template.without_checksums();
    let blind = |nth| {
        let damage = Damage::in_a_payload(&mut chance, &unguarded);
        match judge(&unguarded, &damage) {
            Err(what) if what.starts_with(judge::WRONG) => None,
            judged => Some(format!("control {nth}, {damage}, without checksums: not found wrong, but {judged:?}")),
        }
    };
    (0..CONTROLS).filter_map(blind).collect()
}
