//! How it stands, in words.

use std::fmt::Write;
use std::time::Duration;

use edge_outbox::inspector::Forwarder;
use edge_outbox::{Inspector, LinkState, Outbox, Role, Stats, Status, Storage};

use crate::args::Database;
use crate::output;

/// Most closed topics that are named.
const NAMED: usize = 5;
/// How long a look at the forwarder of another process may wait for the database.
const LOOK: Duration = Duration::from_secs(1);

/// At one moment. The database is asked for figures at most once, and only if somebody wants them.
pub struct Figures<'o> {
    outbox: &'o Outbox,
    status: Status,
    stats: Option<Option<Stats>>,
}

impl<'o> Figures<'o> {
    pub fn new(outbox: &'o Outbox, status: Status) -> Self {
        Figures { outbox, status, stats: None }
    }

    pub fn status(&self) -> &Status {
        &self.status
    }

    /// None where the database does not tell.
    pub fn stats(&mut self) -> Option<&Stats> {
        let outbox = self.outbox;
        let ask = || outbox.stats().inspect_err(|error| log::debug!("no figures this time: {error}")).ok();
        self.stats.get_or_insert_with(ask).as_ref()
    }
}

/// One line for a log.
pub fn line(stats: &Stats, status: &Status, database: &Database) -> String {
    let mut line = format!(
        "{} pending, {} sent, {} failed",
        output::count(stats.pending),
        output::count(stats.sent),
        output::count(stats.failed)
    );
    if stats.waiting > 0 {
        let _ = write!(line, ", {} waiting", output::count(stats.waiting));
    }
    let _ = write!(line, "; {}", Standing::of(status, database).words);
    line
}

/// What is left, and why.
pub fn left(outbox: &Outbox, status: &Status, database: &Database) -> String {
    let mut words = match outbox.stats() {
        Ok(stats) => format!("{} pending", output::counted(stats.pending, "message")),
        Err(error) => format!("how many messages are pending cannot be told: {error}"),
    };
    let standing = Standing::of(status, database);
    let _ = write!(words, "; {}", standing.words);
    let closed = &standing.status.closed_topics;
    for closed in closed.iter().take(NAMED) {
        let _ = write!(words, "\nthe broker closed topic {:?}: {}", closed.topic, output::line(&closed.reason));
    }
    let more = standing.closed.saturating_sub(closed.len().min(NAMED) as u64);
    if more > 0 {
        let _ = write!(words, "\nand {} more", output::counted(more, "topic"));
    }
    words
}

/// How the forwarder stands that sends: this one, or the one for which this one stands by.
struct Standing {
    status: Status,
    /// Closed topics, those that the status leaves out included.
    closed: u64,
    words: String,
}

impl Standing {
    fn of(status: &Status, database: &Database) -> Self {
        let own = |words| Standing { status: status.clone(), closed: status.closed_topics.len() as u64, words };
        if status.role != Role::Standby {
            return own(words(status));
        }
        match Inspector::open(&database.path, LOOK).map(|inspector| inspector.forwarder()) {
            // not this one, which may have taken over a moment ago
            Ok(Forwarder::Active(live)) if live.process != std::process::id() => Standing {
                words: format!("standing by, for process {} has the database: {}", live.process, words(&live.status)),
                closed: live.closed_topics,
                status: live.status,
            },
            _ => own("standing by, for another forwarder has the database".to_owned()),
        }
    }
}

/// What the link does, and what else is in the way.
fn words(status: &Status) -> String {
    let mut words = link(&status.link);
    let storage = match &status.storage {
        Storage::Ok => None,
        Storage::Busy => Some("another program keeps the database locked".to_owned()),
        Storage::Full => Some("the disk has too little space left, and new messages are turned away".to_owned()),
        Storage::Damaged(why) | Storage::Replaced(why) | Storage::Failing(why) => Some(output::line(why)),
        _ => Some("the storage's state is not known".to_owned()),
    };
    let panicked = status.failed.as_ref().map(|said| format!("it panicked: {}", output::line(said)));
    for trouble in storage.into_iter().chain(panicked) {
        let _ = write!(words, "; {trouble}");
    }
    words
}

fn link(link: &LinkState) -> String {
    match link {
        LinkState::Connecting => "connecting to the broker".to_owned(),
        LinkState::Up => "connected to the broker".to_owned(),
        LinkState::Offline { why, .. } => format!("no session with the broker: {}", output::line(why)),
        LinkState::Refused { why, .. } => format!("the broker refuses: {}", output::line(why)),
        LinkState::TopicsClosed { .. } => "the broker has closed every topic that was tried".to_owned(),
        LinkState::Paused => "paused".to_owned(),
        _ => "the link's state is not known".to_owned(),
    }
}
