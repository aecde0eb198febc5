//! How old a row is by uptime, for devices whose wall clock cannot tell.
//!
//! Without a battery-backed clock every boot may begin at the same second, and rows sent a year ago look a minute old.
//! So a SENT row also says in which *era* it was sent, in the three bytes that fill it up. An era ends when at least
//! the retention has passed in it; what was sent before the era before this one is as old as that, whatever its stamp
//! says. `outbox_state` holds the era, and is written with it only where that costs no page more.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::Error;
use crate::store::decode;

/// Eras have three digits, and begin anew. What has survived so many of them stays for two more.
const ERAS: i64 = 1_000;

const READ: &str = "SELECT era, era_age, boot, uptime FROM main.outbox_state WHERE id = 1";
const WRITE: &str = "UPDATE main.outbox_state SET era = ?1, era_age = ?2, boot = ?3, uptime = ?4 WHERE id = 1";

/// A reading of the clock that nobody sets: it counts from the device's boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Uptime {
    /// Which boot that was; `None` where the system does not say.
    pub boot: Option<u32>,
    pub since_boot: Duration,
}

impl Uptime {
    fn ms(self) -> i64 {
        whole_ms(self.since_boot)
    }

    /// What has passed at least since an earlier reading, in milliseconds. After a reboot that is the time since the
    /// boot: how long the device ran after the earlier reading, and how long it was off, nobody knows. What lies ahead
    /// of this reading is of another boot, or was never read.
    fn passed_since(self, boot: i64, uptime: i64) -> i64 {
        let known = self.boot.is_some() && boot != 0;
        let same_boot = !known || boot == self.boot_number();
        let earlier = Some(uptime).filter(|uptime| same_boot && (0..=self.ms()).contains(uptime));
        self.ms() - earlier.unwrap_or(0)
    }

    /// As it stands in the table: 0 for an unknown one.
    fn boot_number(self) -> i64 {
        self.boot.map_or(0, i64::from)
    }
}

/// The era that it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Era {
    number: i64,
    /// How long it has lasted at least, in milliseconds.
    age: i64,
}

impl Era {
    /// Asks the table, in the transaction that goes by the answer: another forwarder may have written it. Whatever
    /// stands there is an era of some age.
    pub fn read(conn: &Connection, now: Uptime) -> Result<Self, Error> {
        let mut statement = conn.prepare_cached(READ)?;
        let found = statement.query_row([], |row| {
            let number = decode::integer(row, 0).rem_euclid(ERAS);
            let passed = now.passed_since(decode::integer(row, 2), decode::integer(row, 3));
            Ok(Era { number, age: decode::integer(row, 1).max(0).saturating_add(passed) })
        });
        Ok(found.optional()?.unwrap_or(Era { number: 0, age: 0 }))
    }

    pub fn is_over(self, retention: Duration) -> bool {
        self.age >= whole_ms(retention)
    }

    /// Writes down how long it has lasted; the next one begins if that is enough.
    pub fn go_on(self, conn: &Connection, now: Uptime, retention: Duration) -> Result<Self, Error> {
        let next = Era { number: (self.number + 1) % ERAS, age: 0 };
        let era = if self.is_over(retention) { next } else { self };
        conn.prepare_cached(WRITE)?.execute(params![era.number, era.age, now.boot_number(), now.ms()])?;
        Ok(era)
    }

    /// What a row bears that is sent in it.
    pub fn mark(self) -> String {
        format!("{:03}", self.number)
    }

    /// The one before it. What was sent in neither is old.
    pub fn before(self) -> Self {
        Era { number: (self.number + ERAS - 1) % ERAS, ..self }
    }
}

fn whole_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
