//! The power is cut: at any moment, in the first creation, in the upgrade of an application's database, in the work, in
//! the restart after a kill and in the recovery from another cut.
//!
//! A workload runs under a [recorder], which writes down what it does to its files and what it says. Any prefix of
//! that is where the power may have been cut, and for each the [card] knows of many ways in which what was not synced
//! yet can be there or not. In each image SQLite has to find a sound database, in which stands what was promised
//! ([judge]); and from some of them the outbox has to send what is left ([drain]).
//!
//! What is recorded takes another course each time; what is made of a recorded run depends on its seed alone. Controls
//! show that a loss would be seen: connections that never sync, and a card that says that it has synced and has not, be
//! it everything, or the database, its log or its folder alone.

mod application;
mod card;
mod drain;
mod explore;
mod judge;
mod recorder;
mod story;
mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tempfile::TempDir;

use self::explore::{Bench, Tally, explore, shows};
use self::story::{Control, Plan, Start, Take, record};
use self::told::{Promise, Told};
use crate::args::Args;
use crate::chance::Chance;
use crate::{Campaign, Verdict};

pub const CAMPAIGN: Campaign = Campaign {
    name: "power-cuts",
    about: "the power is cut, and what was not synced is lost, torn or garbage",
    counts: ("images of what a cut may leave", 20_000, 2_000_000),
    run,
};

/// Recorded runs of one story, and images of one run.
const TAKES: u64 = 3;
const IMAGES: u64 = 170;
/// Recorded runs of one story in eight: recovery from recovery from recovery.
const MANY_TAKES: u64 = 12;
/// A control is tried so often, until it shows what it has to: on a busy machine a run may be too short for that.
const CONTROL_STORIES: u64 = 10;

fn run(args: &Args) -> Verdict {
    if let Some(wanted) = &args.only {
        return look_again(wanted);
    }
    let stories = args.count.div_ceil(TAKES * IMAGES).max(1);
    let (next, whole) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let controls = Mutex::new(BTreeMap::<Control, Tally>::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number < stories {
                let images = args.count * (number + 1) / stories - args.count * number / stories;
                let told = tell_story(args, plan(number), number, images);
                *whole.lock().expect("nobody panicked") += told;
            } else if let Some(control) = Control::ALL.get((number - stories) as usize) {
                let shown = show(args, *control, number);
                controls.lock().expect("nobody panicked").insert(*control, shown);
            } else {
                return;
            }
        }
    };
    thread::scope(|scope| {
        // While one waits for a workload, or for the outbox, another has something to do.
        for _ in 0..2 * thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut whole = whole.into_inner().expect("nobody panicked");
    let mut words = vec![whole.summary()];
    for (control, tally) in controls.into_inner().expect("nobody panicked") {
        match shows(control, &tally) {
            Ok(shown) => words.push(shown),
            Err(why) => whole.broken.push(why),
        }
    }
    if whole.broken.is_empty() {
        return Verdict::Kept(words.join("; "));
    }
    whole.broken.push(format!("{} images broken of {}", whole.broken_images, whole.images));
    Verdict::Broken(whole.broken)
}

/// Of each kind as many.
fn plan(number: u64) -> Plan {
    let promise = [Promise::Full, Promise::Normal, Promise::Mixed][(number % 3) as usize];
    let start = if number / 3 % 2 == 0 { Start::EmptyFolder } else { Start::Application };
    let takes = if number % 8 == 7 { MANY_TAKES } else { TAKES };
    Plan { promise, start, long: number % 16 == 15, takes, control: None }
}

/// Stories of a world in which commits are lost, until that shows.
fn show(args: &Args, control: Control, number: u64) -> Tally {
    let mut tally = Tally::default();
    for nth in 0..CONTROL_STORIES {
        // To lose the database alone before it has been written to for the first time would be no feat.
        let is_there = control == Control::LyingAboutDatabase || nth % 2 == 1;
        let start = if is_there { Start::Application } else { Start::EmptyFolder };
        let plan = Plan { promise: Promise::Full, start, long: false, takes: 1, control: Some(control) };
        tally += tell_story(args, plan, number + nth * (1 << 32), IMAGES);
        if tally.broken_images > 0 {
            break;
        }
    }
    tally
}

/// From its start over some cuts.
fn tell_story(args: &Args, plan: Plan, number: u64, images: u64) -> Tally {
    let mut chance = Chance::seeded(args.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ (number << 20));
    let place = Place::new();
    let (recorded, images_of) = (Bench::new(place.path("recorded")), Bench::new(place.path("image")));
    let mut told = Told::nothing(plan.promise, plan.start == Start::Application);
    let (mut files, mut tally) = (card::Files::default(), Tally::default());
    for nth in 0..plan.takes {
        let name = format!("{}-{number}-{nth}", args.seed);
        let take = recorded
            .lay_out(&files, &mut chance)
            .map_err(|why| why.to_string())
            .and_then(|database| record(args, plan, &database, told, name, &mut chance));
        let take = match take {
            Ok(take) => take,
            Err(why) => {
                tally.broken.push(format!("story {number}, run {nth}: {why}"));
                return tally;
            }
        };
        let share = images * (nth + 1) / plan.takes - images * nth / plan.takes;
        let (found, next) = explore(&take, &plan, share, None, &images_of);
        tally += found;
        match next {
            Some(next) => (files, told) = (next.files, next.told),
            None => return tally,
        }
    }
    tally
}

/// `FOLDER:IMAGE`, as it was told.
fn look_again(wanted: &str) -> Verdict {
    let parts = wanted.rsplit_once(':').and_then(|(folder, number)| Some((folder, number.parse().ok()?)));
    let Some((folder, number)) = parts else {
        return Verdict::Broken(vec![format!("--only {wanted}: FOLDER:IMAGE is meant")]);
    };
    let take = match Take::kept(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
        Ok(take) => take,
        Err(why) => return Verdict::Broken(vec![why]),
    };
    let place = Place::new();
    let plan = Plan { promise: take.told.promise, start: Start::EmptyFolder, long: false, takes: 1, control: None };
    let (tally, _) = explore(&take, &plan, 0, Some(number), &Bench::new(place.path("image")));
    if tally.broken.is_empty() { Verdict::Kept(tally.summary()) } else { Verdict::Broken(tally.broken) }
}

/// A folder in memory if there is room, for a card would have much to do.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let in_memory = rustix::fs::statvfs("/dev/shm").is_ok_and(|found| found.f_bavail * found.f_frsize > 1 << 29);
        let folder = if in_memory { tempfile::tempdir_in("/dev/shm") } else { tempfile::tempdir() };
        Place(folder.expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
