//! The N-th call on the workload's files fails.
//!
//! With ENOSPC or EIO, or as a write that ends halfway, or as a sync whose pages are taken for written and are not (as
//! Linux does it), or the process is killed in front of it; once, or several times in a row, or until the disk is mended.
//! N counts from the process's start, so that opening and creating fail too: then the process may end, having said why.
//!
//! What is set aside with fallocate, which the outbox asks the kernel for by itself, does not fail here; the campaign of
//! full disks has that.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::life::Database;
use super::{DRAINED_WITHIN, Outcome};
use crate::SOON;
use crate::args::Args;
use crate::chance::Chance;
use crate::faults::{ANY_CALL, ANY_FILE, Does, Faults, LOG, SYNC, WRITE};
use crate::workload::{Said, Workload};

/// What happens to which calls on which files.
const KINDS: [(&str, Does, i64, i64); 7] = [
    ("ENOSPC", Does::Answer(Errno::NOSPC), ANY_CALL, ANY_FILE),
    ("EIO", Does::Answer(Errno::IO), ANY_CALL, ANY_FILE),
    ("short write", Does::Half, WRITE, ANY_FILE),
    ("failed sync", Does::Lose, SYNC, ANY_FILE),
    ("failed sync of the log", Does::Lose, SYNC, LOG),
    ("EIO of the log", Does::Answer(Errno::IO), ANY_CALL, LOG),
    ("kill", Does::Kill, ANY_CALL, ANY_FILE),
];
/// The last N of those chosen at random.
const MOST: usize = 400;
const SIGKILL: i32 = 9;
/// Runs beside one another: most of their time they wait.
const LANES: u64 = 3;

/// What came of the runs.
#[derive(Default)]
struct Figures {
    runs: u64,
    failed: u64,
    /// The process could not open, and said so.
    refused: u64,
    killed: u64,
    /// Pages that a power cut took at the end.
    lost_pages: usize,
    commits: usize,
    maybe: usize,
    arrived: usize,
}

pub fn run(args: &Args, outcome: &mut Outcome) {
    let lanes = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|lane| scope.spawn(move || one_lane(args, lane))).collect();
        lanes.into_iter().map(|lane| lane.join().expect("a lane that does not panic")).collect::<Vec<_>>()
    });
    let mut all = Figures::default();
    for (figures, broken) in lanes {
        all.runs += figures.runs;
        all.failed += figures.failed;
        all.refused += figures.refused;
        all.killed += figures.killed;
        all.lost_pages += figures.lost_pages;
        all.commits += figures.commits;
        all.maybe += figures.maybe;
        all.arrived += figures.arrived;
        outcome.broken.extend(broken);
    }
    let Figures { runs, failed, refused, killed, lost_pages, commits, maybe, arrived } = all;
    outcome.words.push(format!(
        "calls: {runs} runs, {failed} calls failed, {refused} processes could not open and said so, {killed} were killed \
         there, {lost_pages} pages lost in power cuts; {commits} commits, {maybe} maybe, {arrived} arrived"
    ));
}

fn one_lane(args: &Args, lane: u64) -> (Figures, Vec<String>) {
    let (mut figures, mut broken) = (Figures::default(), Vec::new());
    for number in (lane..args.count).step_by(LANES as usize) {
        let mut plan = Plan::of(args, number);
        match plan.run(args, &mut figures) {
            Ok(what) => broken.extend(what.into_iter().map(|what| format!("{}: {what}", plan.words))),
            Err(why) => broken.push(format!("{}: {why}", plan.words)),
        }
        figures.runs += 1;
        if broken.len() > 20 {
            break;
        }
    }
    (figures, broken)
}

struct Plan {
    words: String,
    does: Does,
    calls: i64,
    files: i64,
    from: i64,
    count: i64,
    chance: Chance,
}

impl Plan {
    /// In full every N from 1 on, for each kind; else at random.
    fn of(args: &Args, number: u64) -> Self {
        let mut chance = Chance::seeded(args.seed.wrapping_add(number << 32));
        let (name, does, calls, files) = KINDS[number as usize % KINDS.len()];
        let from = if args.full { 1 + number / KINDS.len() as u64 } else { chance.of(1..=MOST) as u64 } as i64;
        // Syncs are fewer.
        let from = if calls == SYNC && !args.full { 1 + from / 4 } else { from };
        let count = chance.pick(&[1, 1, 2, 5, 20, i64::MAX]);
        let words = match count {
            i64::MAX => format!("run {number}, {name} from call {from} until it is mended"),
            count => format!("run {number}, {name} at call {from}, {count} times"),
        };
        Plan { words, does, calls, files, from, count, chance }
    }

    fn run(&mut self, args: &Args, figures: &mut Figures) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir_in(quick_folder()).map_err(|why| why.to_string())?;
        let mut database = Database::new(args, folder.path(), folder.path());
        database.writers = self.chance.of(1..=2);
        database.window = self.chance.pick(&[16, 256]);
        database.settings = format!(
            r#"{{"window":{},"settle_after":"{}","retention":"{}"}}"#,
            database.window,
            self.chance.pick(&["10ms", "100ms"]),
            self.chance.pick(&["0s", "1h"]),
        );
        // Of other modes the last commits may be gone by a power cut.
        let keeps_all = !matches!(self.does, Does::Lose);
        database.synchronous = if keeps_all { self.chance.pick(&["full", "normal", "mixed"]) } else { "full" };
        let faults = Faults::with_pages();
        faults.some(self.does, self.calls, self.files, self.from, self.count);
        let mut workload = database.start(self.chance.of(0..=1 << 30) as u64, |command| faults.preload(command));
        let met = self.meet(&mut database, &mut workload, &faults)?;
        faults.heal();
        figures.failed += faults.failed() as u64;
        // It may be about to end, by a kill or since it cannot open.
        let patience = if met && matches!(self.does, Does::Kill) { SOON } else { Duration::ZERO };
        if database.told.opened == 0 {
            let _ = database.hear(&workload, SOON, "OPEN");
        }
        match (met, workload.wait(if database.told.opened == 0 { SOON } else { patience })) {
            (false, None) => return Err(format!("not so many calls: {}", faults.seen())),
            (true, Some(ended)) if matches!(self.does, Does::Kill) && ended.signal() == Some(SIGKILL) => {
                figures.killed += 1;
            }
            (true, Some(ended)) if ended.code() == Some(1) && database.told.opened == 0 => {
                if database.complaints().is_empty() {
                    return Err("it ended, and did not say why".to_owned());
                }
                figures.refused += 1;
            }
            (_, Some(ended)) => return Err(format!("it ended: {ended:?}{}", database.last_words())),
            (true, None) => {
                database.drains(&mut workload, DRAINED_WITHIN)?;
                database.settles(DRAINED_WITHIN)?;
                workload.tell("write");
                let again = database.hear(&workload, DRAINED_WITHIN, "COMMIT");
                again.map_err(|why| format!("the same process does not write again: {why}"))?;
            }
        }
        database.kill(workload)?;
        figures.lost_pages += faults.cut_power(&database.file).map_err(|why| why.to_string())?;
        database.drain_again()?;
        figures.commits += database.told.committed.len();
        figures.maybe += database.told.maybe.len();
        figures.arrived += database.told.got.len();
        Ok(database.judge())
    }

    /// Until the calls have failed, and a while beyond; whether they have.
    fn meet(&mut self, database: &mut Database, workload: &mut Workload, faults: &Faults) -> Result<bool, String> {
        let until = Instant::now() + SOON;
        while faults.failed() == 0 && Instant::now() < until {
            let said = database.listen(workload, Duration::from_millis(2))?;
            if said.is_empty() && workload.wait(Duration::ZERO).is_some() {
                return Ok(faults.failed() > 0);
            }
        }
        let lasting = if self.count == i64::MAX { self.chance.ms(5..=400) } else { self.chance.ms(0..=60) };
        let _: Vec<Said> = database.listen(workload, lasting)?;
        Ok(faults.failed() > 0)
    }
}

/// In memory where there is such a folder: what is asked here is not how fast a disk syncs.
fn quick_folder() -> &'static Path {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared } else { Path::new("/tmp") }
}
