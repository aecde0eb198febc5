//! The database of a command: opening it, and saying what is wrong with it.

use std::fmt::Display;
use std::time::Duration;

use edge_outbox::{Error, Inspector, Outbox, Settings};

use crate::args::Database;
use crate::failure::Failure;
use crate::output;

impl Database {
    /// To look at it, without changing anything.
    pub fn inspect(&self) -> Result<Inspector, Failure> {
        Inspector::open(&self.path, self.busy_timeout()).map_err(|error| self.failure(&error))
    }

    /// To mend what stands in it.
    pub fn mend(&self) -> Result<Outbox, Failure> {
        let opened = Outbox::builder(&self.path).existing().settings(self.mending()).open();
        opened.map_err(|error| self.failure(&error))
    }

    /// Nothing is enqueued, so no reserve is made for that, and no space asked for.
    pub fn mending(&self) -> Settings {
        Settings { reserve: 0, keep_free: 0, busy_timeout: self.busy_timeout(), ..Settings::default() }
    }

    /// Within what the outbox allows.
    pub fn busy_timeout(&self) -> Duration {
        let given = self.busy_timeout.unwrap_or_else(|| Settings::default().busy_timeout);
        given.clamp(Duration::from_millis(1), Duration::from_secs(3600))
    }

    /// What the library says about it.
    pub fn failure(&self, error: &Error) -> Failure {
        Failure::of(&self.path, error)
    }

    /// What the tool itself says about it.
    pub fn says(&self, words: impl Display) -> String {
        format!("{}: {words}", self.shown())
    }

    /// Its path, for people.
    pub fn shown(&self) -> String {
        output::path(&self.path)
    }
}
