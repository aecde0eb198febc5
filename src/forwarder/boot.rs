//! The time since the device's boot, which nobody sets.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::store::Uptime;

/// With the time that the device was suspended, where the system counts that.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// The name that Linux gives to each boot; elsewhere there is no such file.
const NAME: &str = "/proc/sys/kernel/random/boot_id";

/// The boot that this process lives in.
pub(super) struct Boot {
    number: Option<u32>,
}

impl Boot {
    pub fn present() -> Self {
        let name = fs::read(NAME).ok().filter(|name| !name.is_empty());
        Boot { number: name.map(|name| crc32fast::hash(&name)).filter(|number| *number != 0) }
    }

    pub fn uptime(&self) -> Uptime {
        let now = clock_gettime(CLOCK);
        let seconds = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or(0));
        let since_boot = seconds + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0));
        Uptime { boot: self.number, since_boot }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_goes_on_and_says_the_same_boot_to_whoever_asks() {
        let first = Boot::present().uptime();
        let second = Boot::present().uptime();
        assert!(!first.since_boot.is_zero() && second.since_boot >= first.since_boot);
        assert_eq!(first.boot, second.boot);
        assert_eq!(first.boot.is_some(), std::path::Path::new(NAME).exists());
    }
}
