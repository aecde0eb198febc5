//! Opening the database of a command.

use std::time::Duration;

use edge_outbox::{Inspector, Outbox, Settings};

use crate::args::Database;
use crate::failure::Failure;

impl Database {
    /// To look at it, without changing anything.
    pub fn inspect(&self) -> Result<Inspector, Failure> {
        Inspector::open(&self.path, self.busy_timeout()).map_err(|error| Failure::of(&self.path, &error))
    }

    /// To mend what stands in it. Nothing is enqueued, so no reserve is made for that, and no space asked for.
    pub fn mend(&self) -> Result<Outbox, Failure> {
        let settings = Settings { reserve: 0, keep_free: 0, busy_timeout: self.busy_timeout(), ..Settings::default() };
        let opened = Outbox::builder(&self.path).existing().settings(settings).open();
        opened.map_err(|error| Failure::of(&self.path, &error))
    }

    /// Within what the outbox allows.
    pub fn busy_timeout(&self) -> Duration {
        let given = self.busy_timeout.unwrap_or_else(|| Settings::default().busy_timeout);
        given.clamp(Duration::from_millis(1), Duration::from_secs(3600))
    }
}
