//! What happened: there is no network, and nobody can tell the device for how long.
//!
//! **The link is black-holed** for longer than the outbox waits for answers: what stood stands, and carries nothing.
//! Then it heals. Three times: `silent`, while messages flow, and afterwards even the old connections carry what was
//! kept in them; `stranded`, the same, but the old connections never carry anything again; `idle`, while nothing was
//! sent, so that only the keep-alive can tell. What must hold: the outbox notices while it lasts, and 10 s after the
//! link healed the same process has sent all, with every oracle of audit.rs.
//!
//! **The broker is away, and a backlog stands**: 100,000 rows, once where connections are `refused`, and once where
//! they are `unanswered`. What must hold, during ten seconds of trying: nothing is written, to no file, by no call; no
//! attempt is charged; memory stays as it is, and is that of a backlog of 1,000; it takes less than a twentieth of a
//! core. Then the broker is there: the first message arrives within 10 s, and all of them, in order, with nobody
//! starting anything anew.
//!
//! The settings are those of a device on such a link: see `SETTINGS` here and in both files.

mod backlog;
mod black_hole;
mod door;
mod witness;

use std::sync::Mutex;
use std::thread;

use self::backlog::Backlog;
use self::black_hole::BlackHole;
use self::door::Absence;
use crate::args::Args;
use crate::{Campaign, Verdict};

pub const CAMPAIGN: Campaign = Campaign {
    name: "offline",
    about: "a link that swallows everything; a backlog while the broker is away",
    counts: ("rows of backlog", 100_000, 1_000_000),
    run,
};

/// All at the same time: nearly all of it is waiting.
fn run(args: &Args) -> Verdict {
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    let results = Mutex::new((Vec::new(), Vec::new()));
    let note = |name: &str, result: Result<String, Vec<String>>| {
        let mut results = results.lock().unwrap();
        match result {
            Ok(words) => results.0.push(format!("{name}: {words}")),
            Err(broken) => results.1.extend(broken.into_iter().map(|broken| format!("{name}: {broken}"))),
        }
    };
    thread::scope(|scope| {
        for hole in [BlackHole::Silent, BlackHole::Stranded, BlackHole::Idle] {
            if wanted(hole.name()) {
                scope.spawn(move || note(hole.name(), hole.play(args)));
            }
        }
        for (name, absence) in [("refused", Absence::Refused), ("unanswered", Absence::Unanswered)] {
            if wanted(name) {
                scope.spawn(move || note(name, Backlog { absence, rows: args.count }.play(args)));
            }
        }
    });
    let (kept, broken) = results.into_inner().unwrap();
    match (kept.is_empty(), broken.is_empty()) {
        (_, false) => Verdict::Broken(broken),
        (true, true) => Verdict::Broken(vec!["--only is silent, stranded, idle, refused or unanswered".to_owned()]),
        (false, true) => Verdict::Kept(kept.join("; ")),
    }
}
