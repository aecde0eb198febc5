//! `--drain`: whether nothing is pending any more, and what is said at the end.

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edge_outbox::{LinkState, Outbox, Storage};

use super::figures::{Figures, left};
use super::shut_down;
use crate::args::Database;
use crate::failure::{self, Failure};
use crate::output;

/// How long a look may wait for the last acknowledgements to be written down.
const WRITING: Duration = Duration::from_secs(1);

pub struct Drain {
    until: Option<Instant>,
    /// Messages that this forwarder parked.
    parked: Arc<AtomicU64>,
    /// Messages that were parked before.
    failed_before: Option<u64>,
    /// Whether it was said that only closed topics are waited for.
    told: Cell<bool>,
}

pub enum Drained {
    NotYet,
    Done,
    TimedOut,
    Refused,
}

impl Drain {
    pub fn new(outbox: &Outbox, parked: Arc<AtomicU64>, until: Option<Instant>) -> Self {
        let own = parked.load(Ordering::Relaxed);
        let failed_before = outbox.stats().ok().map(|stats| stats.failed.saturating_sub(own));
        Drain { until, parked, failed_before, told: Cell::new(false) }
    }

    pub fn look(&self, outbox: &Outbox, figures: &mut Figures<'_>) -> Drained {
        let left = self.until.map_or(WRITING, |until| until.saturating_duration_since(Instant::now()).min(WRITING));
        // The figures leave out what is acknowledged and not yet written down: that is waited for, and hurried.
        if figures.stats().is_some_and(|stats| stats.pending == 0) && outbox.flush(left).is_ok() {
            return Drained::Done;
        }
        if left.is_zero() {
            return Drained::TimedOut;
        }
        self.tell_closed(figures);
        match &figures.status().link {
            // a closed topic is not this client's end: it is tried again, and may open
            LinkState::Refused { .. } => Drained::Refused,
            _ => Drained::NotYet,
        }
    }

    /// Once, for nothing else would show whoever gave no `--timeout` why it takes so long.
    fn tell_closed(&self, figures: &mut Figures<'_>) {
        if self.told.get() || figures.status().closed_topics.is_empty() {
            return;
        }
        if let Some(stats) = figures.stats().filter(|stats| stats.pending > 0 && stats.waiting == stats.pending) {
            self.told.set(true);
            log::warn!(
                "waiting for closed topics, with {} pending: they are tried again by themselves; --timeout ends that",
                output::counted(stats.pending, "message")
            );
        }
    }

    pub fn done(&self, outbox: &Outbox, database: &Database) -> Result<ExitCode, Failure> {
        let storage = outbox.status().storage;
        shut_down(outbox, database)?;
        log::info!(
            "drained: {} sent by this forwarder",
            output::counted(outbox.stats().map_or(0, |s| s.sent), "message")
        );
        self.tell_parked(outbox, database);
        drained(&storage, database)
    }

    pub fn timed_out(&self, outbox: &Outbox, database: &Database, figures: &Figures<'_>) -> Result<ExitCode, Failure> {
        shut_down(outbox, database)?;
        self.tell_parked(outbox, database);
        match outbox.stats() {
            // by the shutdown's last acknowledgements
            Ok(stats) if stats.pending == 0 => drained(&figures.status().storage, database),
            _ => Err(Failure::timed_out(
                database
                    .says(format_args!("not drained within --timeout: {}", left(outbox, figures.status(), database))),
            )),
        }
    }

    /// They are not pending, and they did not arrive.
    fn tell_parked(&self, outbox: &Outbox, database: &Database) {
        let own = self.parked.load(Ordering::Relaxed);
        let now = outbox.stats().map_or(0, |stats| stats.failed);
        // by another forwarder, where this one stood by
        let parked = own.max(self.failed_before.map_or(0, |before| now.saturating_sub(before)));
        if parked > 0 {
            failure::say(format_args!(
                "warning: {} parked as failed meanwhile; to see them: edge-outbox list {} --status failed",
                output::counted(parked, "message"),
                database.word()
            ));
        }
    }
}

/// Nothing is pending, of what can be read: nobody knows what stood in the rest.
fn drained(storage: &Storage, database: &Database) -> Result<ExitCode, Failure> {
    let Storage::Damaged(why) = storage else { return Ok(ExitCode::SUCCESS) };
    let (file, word) = (database.shown(), database.word());
    Err(Failure::no(format_args!(
        "{file}: drained of what can be read, but {why}\nWhich rows cannot be: edge-outbox check {word}"
    )))
}
