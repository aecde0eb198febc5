//! The fingerprint of a dispatcher, whenever it is taken: points in time count by how far away they are.
//!
//! The same situation an hour later is the same situation; counted apart, the world would have no end. The clock of the
//! model begins at [`BEGINNING`], so large that every number above it which is hashed is a point in time: numbers of
//! sessions, rows and sendings stay far below. What the dispatcher is and does is not touched by this.

use std::hash::Hasher;
use std::time::Duration;

/// Later than anything that lasts, in seconds.
const FIRST_SECOND: u64 = 1 << 40;
pub(super) const BEGINNING: Duration = Duration::from_secs(FIRST_SECOND);

/// While something is suspected, times are told apart for this long after they have come.
const LONG_AGO: Duration = Duration::from_secs(3_600);

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Passes on what it is given to another hasher, points in time as microseconds from now.
pub(super) struct Clockless<'a, H> {
    into: &'a mut H,
    now: Duration,
    horizon: i64,
    /// The seconds of a point in time; its nanoseconds come next.
    seconds: Option<u64>,
}

impl<'a, H: Hasher> Clockless<'a, H> {
    /// Nothing is suspected: then the dispatcher looks back only to see whether a settlement has waited for
    /// `settle_after`. (The age of a session counts for the backoff, which does not grow in these worlds.)
    pub fn new(into: &'a mut H, now: Duration, settle_after: Duration) -> Self {
        Clockless { into, now, horizon: -micros(settle_after), seconds: None }
    }

    pub fn with_suspects(into: &'a mut H, now: Duration) -> Self {
        Clockless { into, now, horizon: -micros(LONG_AGO), seconds: None }
    }
}

impl<H: Hasher> Hasher for Clockless<'_, H> {
    fn finish(&self) -> u64 {
        self.into.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.into.write(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        if number >= FIRST_SECOND {
            self.seconds = Some(number);
        } else {
            self.into.write_u64(number);
        }
    }

    fn write_u32(&mut self, number: u32) {
        let Some(seconds) = self.seconds.take() else { return self.into.write_u32(number) };
        let at = Duration::new(seconds, number);
        let away = if at >= self.now { micros(at - self.now) } else { -micros(self.now - at) };
        self.into.write_i64(away.max(self.horizon));
    }

    fn write_u8(&mut self, number: u8) {
        self.into.write_u8(number);
    }

    // By default these would pass for points in time.
    fn write_i64(&mut self, number: i64) {
        self.into.write_i64(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.into.write_usize(number);
    }

    fn write_isize(&mut self, number: isize) {
        self.into.write_isize(number);
    }
}
