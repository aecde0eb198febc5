//! A sync of the log that fails in a checkpoint, not in a commit.
//!
//! A checkpoint syncs the log before it moves it. The forwarder's own commits are synced by that alone: if it fails, Linux
//! takes their pages for written, and no later sync has them. What is committed behind them, with syncs that succeed,
//! must stand after a power cut all the same.

use std::path::Path;
use std::time::{Duration, Instant};

use super::life::Database;
use super::{DRAINED_WITHIN, Outcome};
use crate::SOON;
use crate::args::Args;
use crate::faults::{Does, Faults, LOG, SYNC};

/// Enough for a checkpoint to be worth it.
const COMMITS: usize = 600;

pub fn run(args: &Args, outcome: &mut Outcome) {
    let (mut runs, mut lost) = (0, 0);
    for number in 0..if args.full { 100 } else { 3 } {
        match one(args, number) {
            Ok((broken, pages)) => {
                outcome.broken.extend(broken.into_iter().map(|what| format!("checkpoint {number}: {what}")));
                lost += pages;
            }
            Err(why) => outcome.broken.push(format!("checkpoint {number}: {why}")),
        }
        runs += 1;
    }
    outcome.words.push(format!("checkpoint: {runs} whose sync of the log failed, {lost} pages lost in power cuts"));
}

fn one(args: &Args, number: u64) -> Result<(Vec<String>, usize), String> {
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    let folder = folder.map_err(|why| why.to_string())?;
    let mut database = Database::new(args, folder.path(), folder.path());
    database.settings = r#"{"settle_after":"10ms"}"#.to_owned();
    let faults = Faults::with_pages();
    let mut workload = database.start(args.seed.wrapping_add(number), |command| faults.preload(command));
    while database.told.committed.len() < COMMITS {
        database.hear(&workload, SOON, "COMMIT")?;
    }
    database.drains(&mut workload, DRAINED_WITHIN)?;
    // From here on only the forwarder writes, and syncs only in a checkpoint.
    faults.some(Does::Lose, SYNC, LOG, 1, 1);
    let until = Instant::now() + SOON;
    while faults.failed() == 0 && Instant::now() < until {
        database.listen(&workload, Duration::from_millis(5))?;
    }
    workload.tell("write");
    for _ in 0..20 {
        database.hear(&workload, DRAINED_WITHIN, "COMMIT")?;
    }
    database.kill(workload)?;
    let pages = faults.cut_power(&database.file).map_err(|why| why.to_string())?;
    database.drain_again()?;
    let mut broken = database.judge();
    if faults.failed() == 0 {
        broken.push("no sync of the log failed".to_owned());
    }
    Ok((broken, pages))
}
