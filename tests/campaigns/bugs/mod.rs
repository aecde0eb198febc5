//! The bug bank: bugs planted on purpose, each of which some check must find. A check that has never been red proves
//! nothing, and a check that was red once may have gone blind since.
//!
//! A bug is a patch in `tests/bugs/`, never a line of `src/`. Its head tells in words what is wrong and where it comes
//! from; `Found-by:` says what must find it; and what it puts into the product stands behind
//! `if crate::planted("its-name")`, its name being that of the file without its number:
//!
//! ```text
//! An acknowledgement settles every delivery sent before it, as TCP's do. A broker that sheds one message and answers
//! the next has then lost it.
//!
//! From: the reference programme, section 0, finding 5.
//! Found-by: EDGE_OUTBOX_SCHEDULES=5000 unit dispatcher::simulation
//! Found-by: kills --count 60
//! Found-in-full-by: unit dispatcher::model
//!
//! diff --git a/src/…
//! ```
//!
//! What happens: a copy of the tree in `target/bugs/tree` gets all of the patches and is built once. Every check must be
//! green there while no bug is switched on. Then each bug is switched on alone, by the environment variable
//! `EDGE_OUTBOX_PLANTED`, and each check it names must turn red. One that stays green is what is broken here.
//!
//! `unit WORDS` are the library's own tests whose names contain one of the words; anything else is a campaign with its
//! arguments. `NAME=VALUE` in front goes into the environment. `Found-in-full-by:` is for checks that take minutes, with
//! `--full` only. `--only NAME` plays one bug.

mod bank;
mod check;
mod tree;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::args::Args;
use crate::{Campaign, Verdict};
use bank::Bug;
use check::{Check, Colour};

/// Checks that run at a time.
const LANES: usize = 3;

pub const CAMPAIGN: Campaign = Campaign {
    name: "bugs",
    about: "bugs planted on purpose, each of which a check must find",
    // All of them, however many are asked for.
    counts: ("bank", 1, 1),
    run,
};

fn run(args: &Args) -> Verdict {
    match play(args) {
        Ok(verdict) => verdict,
        Err(why) => Verdict::Broken(vec![why]),
    }
}

fn play(args: &Args) -> Result<Verdict, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = bank::read(&root.join("tests/bugs"), args.full)?;
    let wanted: Vec<&Bug> = all.iter().filter(|bug| args.only.as_ref().is_none_or(|only| *only == bug.name)).collect();
    let (wanted, later): (Vec<&Bug>, Vec<&Bug>) = wanted.into_iter().partition(|bug| !bug.found_by.is_empty());
    for bug in later {
        println!("{} takes minutes to find: with --full", bug.name);
    }
    if wanted.is_empty() {
        return Err(format!("tests/bugs has no bug {}, or only with --full", args.only.as_deref().unwrap_or("at all")));
    }
    let programs = tree::build(root, &all, args.seed)?;

    let checks: Vec<&Check> =
        wanted.iter().flat_map(|bug| &bug.found_by).collect::<BTreeSet<_>>().into_iter().collect();
    println!("{} checks, with no bug:", checks.len());
    let clean = in_lanes(&checks, |check| {
        let (colour, seconds) = check.run(&programs, None);
        println!("  {seconds:>5.1} s  {:<7}  {check}{}", colour.name(), colour.why());
        colour
    });
    let mut broken = Vec::new();
    let mut skipped = Vec::new();
    for (check, colour) in checks.iter().zip(&clean) {
        match colour {
            Colour::Green => {}
            Colour::Skipped(why) => skipped.push((*check, why.clone())),
            _ => broken.push(format!("`{check}` is {} with no bug switched on{}", colour.name(), colour.why())),
        }
    }
    // Red with a bug would say nothing now.
    if !broken.is_empty() {
        return Ok(Verdict::Broken(broken));
    }

    let pairs: Vec<(&Bug, &Check)> = wanted.iter().flat_map(|bug| bug.found_by.iter().map(|c| (*bug, c))).collect();
    println!("{} bugs, each alone:", wanted.len());
    let tried = in_lanes(&pairs, |(bug, check)| {
        if let Some((_, why)) = skipped.iter().find(|(cannot, _)| cannot == check) {
            println!("  SKIPPED  {:<34} {check}: {why}", bug.name);
            return None;
        }
        let (colour, seconds) = check.run(&programs, Some(&bug.name));
        println!("  {seconds:>5.1} s  {:<7}  {:<34} {check}{}", colour.name(), bug.name, colour.why());
        Some(colour)
    });
    for ((bug, check), colour) in pairs.iter().zip(&tried) {
        match colour {
            None | Some(Colour::Red(_)) => {}
            Some(Colour::Green) => broken.push(format!("`{check}` does not find {}, {}", bug.name, bug.title)),
            Some(other) => broken.push(format!("`{check}` with {} is {}{}", bug.name, other.name(), other.why())),
        }
    }
    if !broken.is_empty() {
        return Ok(Verdict::Broken(broken));
    }
    let found = tried.iter().flatten().count();
    if found == 0 {
        return Ok(Verdict::Skipped(format!("none of the checks can run here: {}", skipped[0].1)));
    }
    let left = pairs.len() - found;
    let not_tried = if left == 0 { String::new() } else { format!("; {left} SKIPPED: {}", skipped[0].1) };
    Ok(Verdict::Kept(format!("{} bugs, {found} times a check had to be red and was{not_tried}", wanted.len())))
}

/// Some at a time; the answers in the order of what was asked.
fn in_lanes<T: Sync, R: Send>(all: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let answers: Mutex<Vec<(usize, R)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some((index, one)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, all.get(i)?)))
                {
                    let answer = each(one);
                    answers.lock().expect("no lane panics with it").push((index, answer));
                }
            });
        }
    });
    let mut answers = answers.into_inner().expect("no lane panics with it");
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
