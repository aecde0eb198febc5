//! The power is cut under a real file system.
//!
//! The workload writes and sends on an ext4 or XFS of its own, on a loop device. At a random moment, its first creation
//! of the database and its recoveries included, the file system is shut down: nothing reaches the device any more. The
//! workload meets that for a moment and is killed, the file system mounted again, its journal played. Then, before
//! anybody writes:
//!
//! - synchronous FULL: every commit that was told stands in the table. NORMAL, and some connections NORMAL: the last
//!   commits may be missing, all before them stand;
//! - what had reached the broker stands, whatever the mode: durable before sent;
//! - what stood after the cut before, and was on the device by that, stands still, whatever the mode;
//! - nothing stands that was rolled back; SQLite finds the database in order.
//!
//! Now and then the workload then drains what is there, within 12 s: everything in the table arrived, in order, intact,
//! no more of it again than one interruption may repeat. And the next cut follows, on the same file system or a new one.
//!
//! What the workload says once the plug is being pulled did not happen: a device without power says nothing. (Linux 6.18
//! answers an fdatasync that goes on at that moment with success, and ext4 has not written it: seen with a program of ten
//! lines, in 3 of 40 cuts.)
//!
//! What had gone to the loop device before the cut stays there, synced or not: a card that loses what stands in its own
//! memory is not among this (it is in the campaign of recorded power cuts). The control: with synchronous OFF, judged as
//! FULL is, commits must be missing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::rusqlite::Connection;

use crate::args::Args;
use crate::audit::{self, Told};
use crate::card::{Card, Journal};
use crate::chance::Chance;
use crate::workload::{Reading, Said, Workload};
use crate::{Campaign, SOON, Verdict};

pub const CAMPAIGN: Campaign = Campaign {
    name: "card-cuts",
    about: "real file systems whose power is cut (--only ext4, xfs, control)",
    counts: ("cuts of ext4, in full half as many of xfs", 50, 1_000),
    run,
};

const MB: u64 = 1 << 20;
/// Cuts of one file system, before another is made.
const SERIES: u64 = 6;
/// By then one must have lost something, where nothing is synced.
const CONTROLS: u64 = 8;
/// What a restart promises, on a card that works.
const DRAINED_WITHIN: Duration = Duration::from_secs(12);
/// Beside the window: settlements not written down, and after a power cut those that were but not synced.
const REPEATED: u64 = 516 + 1_000;

#[derive(Clone, Copy)]
enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    fn card(self) -> io::Result<Card> {
        match self {
            Kind::Ext4 => Card::try_ext4(64 * MB),
            Kind::Xfs => Card::try_xfs(320 * MB),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
        }
    }
}

/// How the application's connections sync.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Full,
    Normal,
    Mixed,
    /// The control.
    Off,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::Full => "full",
            Mode::Normal => "normal",
            Mode::Mixed => "mixed",
            Mode::Off => "off",
        }
    }
}

fn run(args: &Args) -> Verdict {
    let (ext4, xfs, control) = match args.only.as_deref() {
        None => (args.count, if args.full { args.count / 2 } else { 0 }, true),
        Some("ext4") => (args.count, 0, false),
        Some("xfs") => (0, args.count, false),
        Some("control") => (0, 0, true),
        Some(other) => return Verdict::Broken(vec![format!("--only {other}: ext4, xfs and control are known")]),
    };
    if let Err(why) = Kind::Ext4.card().and_then(|card| card.plug()?.pull(Journal::Lost)) {
        return Verdict::Skipped(format!("no file system whose power can be cut: {why}"));
    }
    let mut broken = Vec::new();
    let mut words = Vec::new();
    let mut tried = control;
    if control {
        match lost_without_syncs(args) {
            Ok(told) => words.push(told),
            Err(why) => broken.push(why),
        }
    }
    for (kind, count) in [(Kind::Ext4, ext4), (Kind::Xfs, xfs)] {
        if count == 0 {
            continue;
        }
        if let Err(why) = kind.card() {
            words.push(format!("{} SKIPPED: {why}", kind.name()));
            continue;
        }
        tried = true;
        let mut figures = Figures::default();
        broken.extend(cuts(args, kind, count, &mut figures));
        words.push(format!("{}: {}", kind.name(), figures.words()));
    }
    for words in &words {
        println!("  {words}");
    }
    match (broken.is_empty(), tried) {
        (false, _) => Verdict::Broken(broken),
        (true, true) => Verdict::Kept(words.join("; ")),
        (true, false) => Verdict::Skipped(words.join("; ")),
    }
}

/// Series after series, until one is broken.
fn cuts(args: &Args, kind: Kind, count: u64, figures: &mut Figures) -> Vec<String> {
    for number in 0.. {
        let left = count - figures.cuts;
        if left == 0 {
            break;
        }
        let mode = [Mode::Full, Mode::Full, Mode::Normal, Mode::Full, Mode::Mixed][number as usize % 5];
        let seed = args.seed.wrapping_add(number << 32);
        let before = figures.cuts;
        let mut broken = match Series::begin(args, kind, mode, seed) {
            Ok(mut series) => series.go_on(left.min(SERIES), figures),
            Err(why) => vec![format!("no {} to cut: {why}", kind.name())],
        };
        if !broken.is_empty() {
            let at = figures.cuts - before;
            let series = format!("{} series {number}, cut {at}, synchronous {}", kind.name(), mode.word());
            broken.iter_mut().for_each(|broken| *broken = format!("{series}: {broken}"));
            return broken;
        }
    }
    Vec::new()
}

/// Where nothing is synced a commit is missing, or this campaign sees nothing.
fn lost_without_syncs(args: &Args) -> Result<String, String> {
    for cut in 1..=CONTROLS {
        let seed = args.seed.wrapping_add(cut << 40);
        let mut series = Series::begin(args, Kind::Ext4, Mode::Off, seed).map_err(|why| why.to_string())?;
        let broken = series.life(true, &mut Figures::default()).err().unwrap_or_default();
        match (series.lost, broken.first()) {
            (0, None) => {}
            (0, Some(broken)) => return Ok(format!("control: with synchronous OFF cut {cut} left this: {broken}")),
            (lost, _) => return Ok(format!("control: synchronous OFF lost {lost} commits in cut {cut}")),
        }
    }
    Err(format!("synchronous OFF lost nothing in {CONTROLS} cuts: this campaign sees no loss"))
}

#[derive(Default)]
struct Figures {
    cuts: u64,
    /// Of them, before the outbox was open.
    while_opening: u64,
    commits: u64,
    /// Told and gone, where the mode allows it; and by how many cuts.
    lost: u64,
    lossy: u64,
    maybe: u64,
    nobodys: u64,
    arrived: u64,
    repeated: u64,
    drained: u64,
}

impl Figures {
    fn words(&self) -> String {
        format!(
            "{} cuts, {} of them while it opened; {} commits and {} maybe, {} of nobody; {} commits at the end were lost by \
             {} cuts where that is allowed, none where not; drained {} times, {} arrived, {} of them again",
            self.cuts,
            self.while_opening,
            self.commits,
            self.maybe,
            self.nobodys,
            self.lost,
            self.lossy,
            self.drained,
            self.arrived,
            self.repeated
        )
    }
}

/// One file system, and what was said of the database on it.
struct Series<'a> {
    args: &'a Args,
    card: Card,
    database: PathBuf,
    mode: Mode,
    chance: Chance,
    writers: usize,
    window: u64,
    settings: String,
    told: Told,
    /// What stood after the last cut.
    stood: BTreeSet<Reading>,
    cuts: u64,
    /// By the last cut.
    lost: u64,
}

impl<'a> Series<'a> {
    fn begin(args: &'a Args, kind: Kind, mode: Mode, seed: u64) -> io::Result<Self> {
        let mut chance = Chance::seeded(seed);
        let card = kind.card()?;
        let window = chance.pick(&[16, 256]);
        let settings = format!(
            r#"{{"window":{window},"settle_after":"{}","retention":"{}"}}"#,
            chance.pick(&["10ms", "100ms", "1s"]),
            chance.pick(&["0s", "1h"])
        );
        let database = card.folder().join("device.db");
        let writers = chance.of(1..=3);
        let (told, stood) = (Told::default(), BTreeSet::new());
        Ok(Series { args, card, database, mode, chance, writers, window, settings, told, stood, cuts: 0, lost: 0 })
    }

    /// What was broken.
    fn go_on(&mut self, cuts: u64, figures: &mut Figures) -> Vec<String> {
        let before = (self.told.got.len(), figures.cuts);
        for cut in 1..=cuts {
            let gone_wrong = self.life(false, figures).and_then(|()| {
                // Else the next life is the first to see what the cut left, and may be cut while it recovers.
                if cut == cuts || !self.chance.one_in(3) { self.drain(figures) } else { Ok(()) }
            });
            if let Err(broken) = gone_wrong {
                self.keep();
                return broken;
            }
        }
        let different: BTreeSet<_> = self.told.got.iter().collect();
        figures.arrived += (self.told.got.len() - before.0) as u64;
        figures.repeated += (self.told.got.len() - different.len()) as u64;
        Vec::new()
    }

    fn command(&mut self) -> Command {
        let seed = self.chance.of(0..=1 << 30) as u64;
        let mut command = Workload::command(self.args, &self.database, "in-process", seed);
        command.args(["--settings", &self.settings, "--synchronous", self.mode.word()]);
        command.stderr(std::process::Stdio::null());
        command
    }

    /// Until the power is cut, and what is found afterwards.
    fn life(&mut self, control: bool, figures: &mut Figures) -> Result<(), Vec<String>> {
        let opens = !control && self.chance.one_in(if self.cuts == 0 { 2 } else { 4 });
        let plug = self.card.plug().map_err(|why| vec![format!("the power cannot be cut: {why}")])?;
        let mut command = self.command();
        // It ends by itself, should this program be killed.
        command.args(["--writers", &self.writers.to_string(), "--seconds", "100"]);
        let workload = Workload::start(&mut command);
        let mut opened = false;
        let mut note = |said: &Said| {
            opened |= *said == Said::Open;
            self.told.note(said);
        };
        let one = |why| vec![why];
        if !opens && !workload.hear_until(Instant::now() + SOON, |said| *said == Said::Open, &mut note).map_err(one)? {
            return Err(vec!["it does not open".to_owned()]);
        }
        let moment = match opens {
            true => self.chance.ms(0..=12),
            // Long enough for a checkpoint, which is made once a second if it is worth it.
            false if self.chance.one_in(8) => self.chance.ms(1_000..=1_600),
            false => self.chance.ms(1..=200),
        };
        workload.hear_until(Instant::now() + moment, |_| false, &mut note).map_err(one)?;
        while let Some(said) = workload.hear(Instant::now()).map_err(one)? {
            note(&said);
        }
        let journal = if self.chance.one_in(4) { Journal::Written } else { Journal::Lost };
        plug.pull(journal).map_err(|why| vec![format!("the power cannot be cut: {why}")])?;
        thread::sleep(self.chance.ms(0..=40));
        let without_power = workload.kill().map_err(one)?;
        self.cuts += 1;
        figures.cuts += 1;
        figures.while_opening += u64::from(!opened);
        self.card.mount_again().map_err(|why| vec![format!("cannot be mounted again: {why}")])?;
        self.judge(&without_power, figures)
    }

    /// By a copy, so that the workload is the first to recover the database.
    fn judge(&mut self, without_power: &[Said], figures: &mut Figures) -> Result<(), Vec<String>> {
        let failed = |why: &dyn std::fmt::Display| vec![format!("cannot be judged: {why}")];
        let copy = tempfile::tempdir().map_err(|why| failed(&why))?;
        copy_database(&self.database, copy.path()).map_err(|why| failed(&why))?;
        let copied = copy.path().join("device.db");
        let mut broken = audit::sound(&copied);
        let stands = audit::readings_if_any(&Connection::open(&copied).map_err(|why| failed(&why))?);
        let stands = stands.map_err(|why| failed(&why))?;
        for said in without_power {
            match said {
                Said::Commit(reading) | Said::Maybe(reading) => drop(self.told.maybe.insert(*reading)),
                // It arrived before the power was gone, or never.
                Said::Got(reading) if stands.contains(reading) => self.told.got.push(*reading),
                _ => {}
            }
        }
        let Told { committed, maybe, .. } = &self.told;
        figures.maybe += maybe.difference(&stands).count() as u64;
        self.lost = committed.difference(&stands).count() as u64;
        figures.lost += self.lost;
        figures.lossy += u64::from(self.lost > 0);
        figures.commits += committed.len() as u64;
        if self.mode == Mode::Full {
            broken.extend(audit::durable(&self.told, &stands));
        }
        if self.mode != Mode::Off {
            broken.extend(audit::without_row(&self.told, &stands));
            let gone = self.stood.difference(&stands);
            broken.extend(gone.map(|gone| format!("{gone:?} stood after the cut before, and is not in biz")));
        }
        broken.extend(audit::dense(&stands));
        broken.extend(audit::announced(&self.told, &stands, self.writers));
        // What is gone is gone, and what was found known from now on.
        let Told { committed, maybe, .. } = &mut self.told;
        figures.nobodys += (&(&stands - committed) - maybe).len() as u64;
        committed.clear();
        maybe.clone_from(&stands);
        self.stood = stands;
        if broken.is_empty() { Ok(()) } else { Err(broken) }
    }

    fn drain(&mut self, figures: &mut Figures) -> Result<(), Vec<String>> {
        let mut command = self.command();
        command.args(["--drain", "--seconds", &DRAINED_WITHIN.as_secs().to_string()]);
        let mut workload = Workload::start(&mut command);
        let ended = workload.wait(SOON);
        for said in workload.kill().map_err(|why| vec![why])? {
            self.told.note(&said);
        }
        if !ended.is_some_and(|ended| ended.success()) {
            return Err(vec![format!("not drained within {DRAINED_WITHIN:?} of a restart: {ended:?}")]);
        }
        figures.drained += 1;
        let connection = Connection::open(&self.database).map_err(|why| vec![why.to_string()])?;
        let stands = audit::readings(&connection).map_err(|why| vec![why.to_string()])?;
        drop(connection);
        let mut broken = audit::delivered(&stands, &self.told.got);
        broken.extend(audit::intact(&self.told));
        broken.extend(audit::repeated(&self.told.got, self.cuts, self.window + REPEATED));
        broken.extend(audit::sound(&self.database));
        if broken.is_empty() { Ok(()) } else { Err(broken) }
    }

    fn keep(&self) {
        if self.args.keep {
            if let Ok(kept) = tempfile::tempdir().map(tempfile::TempDir::keep) {
                let copied = copy_database(&self.database, &kept);
                println!("card-cuts: what stands there is kept in {} ({copied:?})", kept.display());
            }
        }
    }
}

/// Database and log, as they stand; the index is made anew.
fn copy_database(database: &Path, to: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-journal"] {
        let name = format!("device.db{suffix}");
        match fs::copy(database.with_file_name(&name), to.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => drop(copied?),
        }
    }
    Ok(())
}
