//! How it stands, in words.

use std::fmt::Write;

use edge_outbox::{LinkState, Outbox, Role, Stats, Status};

use crate::output;

/// Most closed topics that are named.
const NAMED: usize = 5;

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
pub fn line(stats: &Stats, status: &Status) -> String {
    let mut line = format!(
        "{} pending, {} sent, {} failed",
        output::count(stats.pending),
        output::count(stats.sent),
        output::count(stats.failed)
    );
    if stats.waiting > 0 {
        let _ = write!(line, ", {} waiting", output::count(stats.waiting));
    }
    let _ = write!(line, "; {}", link(status));
    line
}

/// What is left, and what the link does.
pub fn left(outbox: &Outbox, status: &Status) -> String {
    let mut words = match outbox.stats() {
        Ok(stats) => format!("{} pending", output::counted(stats.pending, "message")),
        Err(error) => format!("how many messages are pending cannot be told: {error}"),
    };
    let _ = write!(words, "; {}", link(status));
    for closed in status.closed_topics.iter().take(NAMED) {
        let _ = write!(words, "\nthe broker closed topic {:?}: {}", closed.topic, output::line(&closed.reason));
    }
    if let Some(more) = status.closed_topics.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let _ = write!(words, "\nand {} more", output::counted(more as u64, "topic"));
    }
    words
}

/// What the link does.
pub fn link(status: &Status) -> String {
    match (&status.role, &status.link) {
        (Role::Standby, _) => "standing by, for another forwarder has the database".to_owned(),
        (_, LinkState::Connecting) => "connecting to the broker".to_owned(),
        (_, LinkState::Up) => "connected to the broker".to_owned(),
        (_, LinkState::Offline { why, .. }) => format!("no session with the broker: {}", output::line(why)),
        (_, LinkState::Refused { why, .. }) => format!("the broker refuses: {}", output::line(why)),
        (_, LinkState::TopicsClosed { .. }) => "the broker has closed every topic that was tried".to_owned(),
        (_, LinkState::Paused) => "paused".to_owned(),
        (_, _) => "the link's state is not known".to_owned(),
    }
}
