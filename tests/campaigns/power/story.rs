//! A database's story: it begins in an empty folder, or as an application's, and goes on from one cut to the next. What
//! is recorded in between is a [`Take`], of which any prefix may be where the power was cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::application;
use super::card::{self, Card, Files};
use super::recorder::{Entry, FOLDER, Log, OTHERS, Recording, SUFFIXES};
use super::told::{Promise, Told};
use crate::SOON;
use crate::args::Args;
use crate::chance::Chance;
use crate::workload::{Said, Workload};

/// Messages in flight at most, in everything that is recorded and drained here.
pub const WINDOW: usize = 16;
/// Threads that write, at most; and lives of one take.
pub const WRITERS: usize = 3;
pub const LIVES: usize = 2;
/// A life ends by itself after so long, if it is not killed before.
const LONGEST: Duration = Duration::from_millis(600);

/// Where a story begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    EmptyFolder,
    Application,
}

/// How the database is written.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub promise: Promise,
    pub start: Start,
    /// Thousands of messages, so that more than may be repeated can be.
    pub long: bool,
    /// Recorded runs, each from a cut of the one before.
    pub takes: u64,
    /// What is promised to lose: see that it shows.
    pub control: Option<Control>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Control {
    /// Connections that never sync.
    Off,
    /// A card that says that it has synced, and has not: anything; or the database, the log or the folder alone.
    LyingCard,
    LyingAboutDatabase,
    LyingAboutLog,
    LyingAboutNames,
}

impl Control {
    pub const ALL: [Control; 5] = [
        Control::Off,
        Control::LyingCard,
        Control::LyingAboutDatabase,
        Control::LyingAboutLog,
        Control::LyingAboutNames,
    ];

    /// The numbers of what is never synced in truth.
    fn lies_about(self) -> &'static [usize] {
        match self {
            Control::Off => &[],
            Control::LyingCard => &[0, 1, 2, FOLDER],
            Control::LyingAboutDatabase => &[0],
            Control::LyingAboutLog => &[1],
            Control::LyingAboutNames => &[FOLDER],
        }
    }
}

/// What was recorded from a start, or a cut, on.
pub struct Take {
    pub name: String,
    /// On the card when it began.
    pub base: Files,
    pub told: Told,
    pub log: Log,
    pub seed: u64,
}

/// Where in a take a cut is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    Creation,
    Upgrade,
    Recovery,
    Restart,
    Work,
}

/// Begins with the files that stand beside `database`.
pub fn record(
    args: &Args,
    plan: Plan,
    database: &Path,
    told: Told,
    name: String,
    chance: &mut Chance,
) -> Result<Take, String> {
    let failed = |why: std::io::Error| why.to_string();
    if told.cuts == 0 && plan.start == Start::Application {
        application::make(database, plan.control.is_some(), chance).map_err(|error| error.to_string())?;
        // Its index does not survive the power either.
        let _ = fs::remove_file(card::beside(database, "-shm"));
    }
    let base = card::read(database).map_err(failed)?;
    let log = database.with_file_name("log");
    let lives = if chance.one_in(2) && plan.control.is_none() { LIVES } else { 1 };
    for life in 1..=lives {
        live(args, plan, database, &log, life < lives, chance)?;
    }
    let take = Take { name, base, told, log: Log::read(&log)?, seed: chance.of(0..=usize::MAX >> 1) as u64 };
    take.is_what_happened(database)?;
    fs::remove_file(&log).map_err(failed)?;
    Ok(take)
}

/// One process, until it is killed or ends.
fn live(
    args: &Args,
    plan: Plan,
    database: &Path,
    log: &Path,
    is_short: bool,
    chance: &mut Chance,
) -> Result<(), String> {
    // After so many transactions a writer moves the log; else the outbox does it, when it is long.
    let moved = match (plan.control, plan.long) {
        (Some(_), _) => Some(10),
        (None, true) => None,
        (None, false) => chance.pick(&[None, Some(1), Some(5), Some(30)]),
    };
    let entries = match (is_short, plan.long) {
        (true, false) => chance.of(20..=1_200),
        (true, true) => chance.of(5_000..=15_000),
        (false, false) if moved.is_some() => chance.pick(&[400, 1_000, 1_500, 3_000]),
        // The last is so many that the outbox has moved the log, which begins anew then.
        (false, false) => chance.pick(&[1_500, 8_000]),
        (false, true) => 40_000,
    };
    let recording = Recording {
        last_entry: entries as u64,
        sync_us: if plan.control.is_some() { 0 } else { chance.pick(&[0, 0, 50, 300]) },
        lies_about: plan.control.map_or(&[], Control::lies_about),
    };
    let mut command = Workload::command(args, database, "in-process", chance.of(0..=1_000_000) as u64);
    let synchronous = match (plan.control, plan.promise) {
        (Some(Control::Off), _) => "off",
        (_, Promise::Full) => "full",
        (_, Promise::Normal) => "normal",
        (_, Promise::Mixed) => "mixed",
    };
    let longest = if plan.long { 4 * LONGEST } else { LONGEST };
    let settings = format!(
        r#"{{"window":{WINDOW},"settle_after":"{}ms","retention":"{}","reserve":{}}}"#,
        chance.pick(&[1, 5, 20, 100]),
        if plan.long { "1h" } else { chance.pick(&["0s", "0s", "1h"]) },
        chance.pick(&[0, 1_048_576]),
    );
    command.args(["--synchronous", synchronous, "--settings", &settings]);
    command.args(["--writers", &chance.of(1..=WRITERS).to_string(), "--seconds", &longest.as_secs_f64().to_string()]);
    if let Some(every) = moved {
        command.args(["--checkpoint", &every.to_string()]);
    }
    if chance.one_in(3) && plan.control.is_none() {
        // So slow that the forwarder has nothing to do in between.
        command.args(["--rate", "500"]);
    }
    recording.preload(&mut command, database, log);
    let ended = Workload::start(&mut command).wait(SOON).ok_or("the workload did not end")?;
    // 9 is SIGKILL, by the recorder.
    let was_killed = std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9);
    if was_killed || ended.success() { Ok(()) } else { Err(format!("the workload ended with {ended}")) }
}

impl Take {
    /// Whether what was recorded is all that happened to the files: all of it makes them as they are.
    fn is_what_happened(&self, database: &Path) -> Result<(), String> {
        let mut card = Card::holding(self.base.clone());
        for number in 0..self.log.entries.len() {
            card.follow(number, &self.log);
        }
        let rebuilt = card.after_cut(&self.log, card::Mode::Kept, &mut Chance::seeded(0));
        let real = card::read(database).map_err(|why| why.to_string())?;
        for ((suffix, rebuilt), real) in SUFFIXES.iter().zip(&rebuilt).zip(&real) {
            if rebuilt != real {
                let size = |file: &Option<Vec<u8>>| file.as_ref().map(Vec::len);
                let (rebuilt, real) = (size(rebuilt), size(real));
                return Err(format!("the recorder did not see all: {suffix:?} has {real:?} bytes, not {rebuilt:?}"));
            }
        }
        let folder = database.parent().expect("it has one");
        for found in fs::read_dir(folder).map_err(|why| why.to_string())?.flatten() {
            let name = found.file_name().to_string_lossy().into_owned();
            let suffix = name.strip_prefix(&*database.file_name().expect("it has one").to_string_lossy());
            if name != "log" && !suffix.is_some_and(|known| SUFFIXES.contains(&known) || OTHERS.contains(&known)) {
                return Err(format!("the recorder knows of no file {name:?}"));
            }
        }
        Ok(())
    }

    /// The phase that each entry belongs to.
    pub fn phases(&self) -> Vec<Phase> {
        let first = match (self.told.cuts, self.told.of_application) {
            (0, false) => Phase::Creation,
            (0, true) => Phase::Upgrade,
            _ => Phase::Recovery,
        };
        let (mut lives, mut phase) = (0, first);
        let step = |entry: &Entry| {
            match entry {
                Entry::Life => {
                    lives += 1;
                    phase = if lives > 1 && phase == Phase::Work { Phase::Restart } else { phase };
                }
                Entry::Said(line) if line == "OPEN" => phase = Phase::Work,
                _ => {}
            }
            phase
        };
        self.log.entries.iter().map(step).collect()
    }

    /// Keeps it for another look; answers where.
    pub fn keep(&self) -> Result<PathBuf, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("power-cuts").join(&self.name);
        let keep = || {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder)?;
            card::write(&self.base, &folder.join("base"))?;
            fs::write(folder.join("log"), &self.log.bytes)?;
            fs::write(folder.join("told"), self.told.to_text(self.seed))
        };
        keep().map_err(|why| format!("{}: {why}", folder.display()))?;
        Ok(folder)
    }

    /// One that was kept.
    pub fn kept(folder: &Path) -> Result<Take, String> {
        let failed = |why: std::io::Error| format!("{}: {why}", folder.display());
        let base = card::read(&folder.join("base")).map_err(failed)?;
        let (told, seed) = Told::of_text(&fs::read_to_string(folder.join("told")).map_err(failed)?)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Take { name, base, told, log: Log::read(&folder.join("log"))?, seed })
    }
}

/// What an entry says.
pub fn said(entry: &Entry) -> Result<Option<Said>, String> {
    match entry {
        Entry::Said(line) => Said::parse(line).map(Some),
        _ => Ok(None),
    }
}
