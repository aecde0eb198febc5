//! What is looked at now and then: what others committed, whether the files are still those that were opened, and how
//! long the log is.

use std::time::{Duration, Instant};

use super::Parts;
use super::dispatcher::Dispatcher;
use super::health::{Health, Work};
use crate::disk::Part;
use crate::error::chain;
use crate::store::Store;

/// How often at most the length of the log and the space on the disk are looked at.
const TEND_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    next_poll: Instant,
    next_tending: Instant,
    log_is_saved: bool,
    /// Why a deleted log could not be saved yet: what the log was told.
    told: String,
}

impl Watch {
    pub fn new(now: Instant) -> Self {
        Watch { next_poll: now, next_tending: now + TEND_EVERY, log_is_saved: false, told: String::new() }
    }

    /// When to look next.
    pub fn next(&self) -> Instant {
        self.next_poll
    }

    /// Somebody deleted the `-wal`, and what it held stands in the database: this connection cannot be used any more,
    /// nor can those of the application.
    pub fn log_is_saved(&self) -> bool {
        self.log_is_saved
    }

    /// Notices what other connections committed, by `PRAGMA data_version`; and within the process by a word.
    pub fn look(&mut self, parts: &mut Parts, health: &mut Health, dispatcher: &mut Dispatcher) {
        let told = parts.shared.mailbox.take_committed();
        let now = Instant::now();
        if !told && now < self.next_poll {
            return;
        }
        self.next_poll = now + parts.settings.poll_interval;
        match parts.store.changed() {
            Ok(moved) => {
                health.went_well(Work::Look);
                if told || moved {
                    dispatcher.committed();
                }
            }
            Err(error) => drop(health.trouble(Work::Look, &error)),
        }
        let lost = health.look_at_files();
        if now >= self.next_tending {
            self.next_tending = now + TEND_EVERY;
            match lost {
                None => health.tend(&parts.store, dispatcher.is_idle()),
                Some(Part::Log) => self.save_log(&parts.store),
                Some(Part::Database | Part::SharedMemory) => {}
            }
        }
    }

    /// The last look, before the connection is closed.
    pub fn end(&mut self, store: &Store, health: &mut Health) {
        if !self.log_is_saved && health.look_at_files() == Some(Part::Log) {
            self.save_log(store);
        }
    }

    /// The log was deleted: what is committed and stands in no other file is moved into the database, as long as this
    /// process has the log open. Whoever opens the database next begins another log, of which this connection would
    /// know nothing: it is not used any more then.
    fn save_log(&mut self, store: &Store) {
        match store.empty_log() {
            Ok(()) => {
                log::warn!("the log was deleted: all that was committed has been moved into the database");
                self.log_is_saved = true;
            }
            Err(error) => {
                let why = chain(&error);
                if self.told != why {
                    log::error!("the log was deleted, and cannot be moved into the database yet: {why}");
                    self.told = why;
                }
            }
        }
    }
}
