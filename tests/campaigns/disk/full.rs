//! Nine ways in which a disk is full, each on a tmpfs and on an ext4.
//!
//! In all of them the workload says FULL and nothing worse, nothing that it was told is committed is lost, what is in the
//! outbox gets out within 10 s without a restart (where there is a reserve, on the disk that is still full), a restart
//! works there too, and once there is space new messages are taken.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use edge_outbox::rusqlite::Connection;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::Outcome;
use super::life::Database;
use crate::SOON;
use crate::args::Args;
use crate::card::Card;
use crate::workload::{Said, Workload};

const MB: u64 = 1 << 20;
/// What is promised.
const WITHIN: Duration = Duration::from_secs(10);
/// What is in the outbox when the disk becomes full: more than a window.
const BACKLOG: usize = 600;

pub struct Scenario {
    pub name: &'static str,
    settings: &'static str,
    more: &'static [&'static str],
    plays: fn(&Card, &mut Database<'_>) -> Result<(), String>,
}

const DEFAULTS: &str = "{}";
/// Nothing is left to others but the reserve.
const TO_THE_END: &str = r#"{"keep_free":0}"#;
const NO_RESERVE: &str = r#"{"keep_free":0,"reserve":0}"#;

pub const SCENARIOS: [Scenario; 9] = [
    Scenario { name: "by-itself", settings: DEFAULTS, more: &[], plays: filled_by_itself },
    Scenario { name: "last-byte", settings: TO_THE_END, more: &[], plays: filled_by_itself_to_the_last_byte },
    Scenario { name: "by-others", settings: DEFAULTS, more: &[], plays: filled_by_others },
    Scenario { name: "restart", settings: DEFAULTS, more: &[], plays: restarted_without_shared_memory },
    Scenario { name: "killed", settings: TO_THE_END, more: &[], plays: killed_again_and_again },
    Scenario { name: "no-reserve", settings: NO_RESERVE, more: &[], plays: without_reserve },
    Scenario { name: "max-pending", settings: DEFAULTS, more: &["--max-pending", "300"], plays: at_its_budget },
    Scenario { name: "little-by-little", settings: TO_THE_END, more: &[], plays: space_comes_back_slowly },
    Scenario { name: "long-log", settings: DEFAULTS, more: &[], plays: behind_a_long_log },
];

/// Beside one another: most of their time they wait.
pub fn run(args: &Args, outcome: &mut Outcome) {
    let wanted = |scenario: &&Scenario| args.only.as_deref().is_none_or(|only| only == "full" || only == scenario.name);
    let told: Vec<Result<Played, String>> = thread::scope(|scope| {
        let both = |scenario| [(scenario, "tmpfs"), (scenario, "ext4")];
        let runs = SCENARIOS.iter().filter(wanted).flat_map(both);
        let runs: Vec<_> = runs.map(|(scenario, on)| scope.spawn(move || play(args, scenario, on))).collect();
        runs.into_iter().map(|run| run.join().expect("a scenario that does not panic")).collect()
    });
    let (mut runs, mut commits) = (0, 0);
    for played in told {
        match played {
            Ok(Played { broken, told }) => {
                outcome.broken.extend(broken);
                runs += 1;
                commits += told;
            }
            Err(why) => outcome.skipped.push(why),
        }
    }
    if runs > 0 {
        outcome
            .words
            .push(format!("full: {runs} runs, of {} scenarios on 2 file systems, {commits} commits", SCENARIOS.len()));
    }
}

struct Played {
    broken: Vec<String>,
    told: usize,
}

/// # Errors
/// Why it cannot be played here.
fn play(args: &Args, scenario: &Scenario, on: &str) -> Result<Played, String> {
    let card = if on == "tmpfs" { Card::try_tmpfs(48 * MB) } else { Card::try_ext4(48 * MB) };
    let card = card.map_err(|why| format!("{} on {on}: SKIPPED: {why}", scenario.name))?;
    let outside = tempfile::tempdir().expect("a folder");
    let mut database = Database::new(args, card.folder(), outside.path());
    scenario.settings.clone_into(&mut database.settings);
    database.more = scenario.more.iter().map(|word| (*word).to_owned()).collect();
    let broken = match (scenario.plays)(&card, &mut database) {
        Ok(()) => database.judge(),
        Err(why) => vec![why],
    };
    let broken = broken.into_iter().map(|what| format!("{} on {on}: {what}", scenario.name)).collect();
    Ok(Played { broken, told: database.told.committed.len() })
}

/// It has written that many, and sent none of them.
fn with_backlog(database: &mut Database<'_>) -> Result<Workload, String> {
    let mut workload = database.start(1, |_| ());
    database.hear(&workload, SOON, "OPEN")?;
    workload.tell("pause");
    while database.told.committed.len() < BACKLOG {
        database.hear(&workload, SOON, "COMMIT")?;
    }
    Ok(workload)
}

/// From now on it says FULL, for as long as nothing changes: no commit, and none that may be one.
fn turns_away(database: &mut Database<'_>, workload: &Workload) -> Result<(), String> {
    database.hear(workload, SOON, "FULL")?;
    // What was under way as the disk became full is over.
    database.listen(workload, Duration::from_millis(150))?;
    let complaints = database.complaints().len();
    let said = database.listen(workload, Duration::from_millis(400))?;
    let worse = said.iter().find(|said| !matches!(said, Said::Full | Said::Got(_) | Said::Reconnect));
    match worse {
        Some(worse) => Err(format!("on the full disk it says {worse:?}, not FULL")),
        None if said.is_empty() => Err("on the full disk it says nothing".to_owned()),
        None if database.complaints().len() > complaints => {
            Err(format!("on the full disk it says FULL, and complains{}", database.last_words()))
        }
        None => Ok(()),
    }
}

/// There is space: new ones are taken, and sent; and what was killed and started again finds all of it.
fn goes_on(database: &mut Database<'_>, mut workload: Workload) -> Result<(), String> {
    database.catch_up(&workload)?;
    workload.tell("write");
    database.hear(&workload, WITHIN, "COMMIT").map_err(|why| format!("with space again: {why}"))?;
    database.drains(&mut workload, WITHIN)?;
    database.settles(WITHIN)?;
    database.kill(workload)?;
    database.drain_again()
}

fn drains_while_full(database: &mut Database<'_>, workload: &mut Workload) -> Result<(), String> {
    workload.tell("resume");
    database.drains(workload, WITHIN).map_err(|why| format!("on the full disk: {why}"))
}

/// The outbox itself takes all the space that it may, which a broker that is away lets it do.
fn filled_by_itself(card: &Card, database: &mut Database<'_>) -> Result<(), String> {
    leave(card, 24 * MB)?;
    let mut workload = with_backlog(database)?;
    // A log that was moved makes room for some more, at times.
    database.hear(&workload, SOON, "FULL")?;
    let said = database.listen(&workload, Duration::from_millis(1_500))?;
    if let Some(worse) = said.iter().find(|said| !matches!(said, Said::Full | Said::Commit(_))) {
        return Err(format!("on the full disk it says {worse:?}, not FULL"));
    }
    drains_while_full(database, &mut workload)?;
    goes_on(database, workload)
}

/// The same, and nothing is to be left to others: it says so before the commits fail.
fn filled_by_itself_to_the_last_byte(card: &Card, database: &mut Database<'_>) -> Result<(), String> {
    leave(card, 6 * MB)?;
    let mut workload = database.start(1, |_| ());
    database.hear(&workload, SOON, "OPEN")?;
    workload.tell("pause");
    database.hear(&workload, SOON, "FULL")?;
    let said = database.listen(&workload, Duration::from_secs(1))?;
    if let Some(worse) = said.iter().find(|said| !matches!(said, Said::Full | Said::Commit(_))) {
        return Err(format!("on the full disk it says {worse:?}, not FULL"));
    }
    drains_while_full(database, &mut workload)?;
    goes_on(database, workload)
}

/// Others take the last byte: what is in the outbox gets out, nothing new is taken until they leave.
fn filled_by_others(card: &Card, database: &mut Database<'_>) -> Result<(), String> {
    let mut workload = with_backlog(database)?;
    let others = card.fill();
    turns_away(database, &workload)?;
    drains_while_full(database, &mut workload)?;
    workload.tell("write");
    turns_away(database, &workload)?;
    drop(others);
    goes_on(database, workload)
}

/// The device is switched off, its disk full, and on again: -shm is gone, as with a folder in memory.
fn restarted_without_shared_memory(card: &Card, database: &mut Database<'_>) -> Result<(), String> {
    let workload = with_backlog(database)?;
    database.kill(workload)?;
    fs::remove_file(card.folder().join("device.db-shm")).map_err(|why| why.to_string())?;
    let others = card.fill();
    let mut workload = database.start(2, |_| ());
    database.hear(&workload, WITHIN, "OPEN").map_err(|why| format!("it does not open on the full disk: {why}"))?;
    turns_away(database, &workload)?;
    database.drains(&mut workload, WITHIN)?;
    drop(others);
    goes_on(database, workload)
}

/// Each start has less than the one before, if anything leaks.
fn killed_again_and_again(card: &Card, database: &mut Database<'_>) -> Result<(), String> {
    let mut workload = with_backlog(database)?;
    let others = card.fill();
    for round in 1..=8 {
        database.listen(&workload, Duration::from_millis(round * 17 % 90))?;
        database.kill(workload)?;
        workload = database.start(round, |_| ());
    }
    database.hear(&workload, WITHIN, "OPEN")?;
    database.drains(&mut workload, WITHIN).map_err(|why| format!("on the full disk: {why}"))?;
    drop(others);
    goes_on(database, workload)
}

/// Without a reserve nothing can be written down on such a disk: what is in the outbox waits for space.
fn without_reserve(card: &Card, database: &mut Database<'_>) -> Result<(), String> {
    let mut workload = with_backlog(database)?;
    let others = card.fill();
    database.listen(&workload, Duration::from_millis(300))?;
    workload.tell("resume");
    database.listen(&workload, Duration::from_millis(700))?;
    drop(others);
    database.drains(&mut workload, WITHIN)?;
    goes_on(database, workload)
}

/// As many are pending as may be, and then the disk is full as well.
fn at_its_budget(card: &Card, database: &mut Database<'_>) -> Result<(), String> {
    let mut workload = database.start(1, |_| ());
    database.hear(&workload, SOON, "OPEN")?;
    workload.tell("pause");
    turns_away(database, &workload)?;
    let pending = database.told.committed.len() - arrived(database);
    // What was in flight at the pause may have been acknowledged and counted as pending still.
    if pending > 300 {
        return Err(format!("{pending} are pending, and 300 may be"));
    }
    let others = card.fill();
    turns_away(database, &workload)?;
    drains_while_full(database, &mut workload)?;
    drop(others);
    goes_on(database, workload)
}

fn arrived(database: &Database<'_>) -> usize {
    database.told.got.iter().filter(|got| database.told.committed.contains(got)).count()
}

/// Others leave piece by piece, while it goes on trying: at no moment is anything said that does not hold.
fn space_comes_back_slowly(card: &Card, database: &mut Database<'_>) -> Result<(), String> {
    let mut workload = with_backlog(database)?;
    let others = card.fill();
    turns_away(database, &workload)?;
    workload.tell("resume");
    for _ in 0..40 {
        others.shrink(128 * 1024);
        database.listen(&workload, Duration::from_millis(25))?;
    }
    database.drains(&mut workload, WITHIN)?;
    drop(others);
    goes_on(database, workload)
}

/// A reader that stays has kept the log from beginning anew: it is longer than the reserve. When the reader goes, there is
/// space enough to move it.
fn behind_a_long_log(card: &Card, database: &mut Database<'_>) -> Result<(), String> {
    let mut workload = with_backlog(database)?;
    let reader = Connection::open(&database.file).map_err(|why| why.to_string())?;
    reader.execute_batch("BEGIN; SELECT count(*) FROM biz").map_err(|why| why.to_string())?;
    let log = PathBuf::from(format!("{}-wal", database.file.display()));
    while fs::metadata(&log).map_err(|why| why.to_string())?.len() < 6 * MB {
        database.listen(&workload, Duration::from_millis(20))?;
    }
    let others = card.fill();
    turns_away(database, &workload)?;
    drop(reader);
    drains_while_full(database, &mut workload)?;
    drop(others);
    goes_on(database, workload)
}

/// Others take all but so much, and stay.
fn leave(card: &Card, bytes: u64) -> Result<(), String> {
    let taken = || -> std::io::Result<()> {
        let free = statvfs(card.folder())?;
        let others = fs::File::create(card.folder().join("neighbours"))?;
        Ok(fallocate(&others, FallocateFlags::empty(), 0, free.f_bavail * free.f_frsize - bytes)?)
    };
    taken().map_err(|why| why.to_string())
}
