//! The time since the device's boot, which nobody sets.

use std::fs;
use std::time::{Duration, Instant};

use crate::store::Uptime;

/// Where Linux says how many seconds have passed since the boot, those that it was suspended included. (`CLOCK_BOOTTIME`,
/// which std cannot be asked for.)
const SINCE_BOOT: &str = "/proc/uptime";
/// The name that it gives to each boot.
const NAME: &str = "/proc/sys/kernel/random/boot_id";

/// The boot that this process lives in.
pub(super) struct Boot {
    number: Option<u32>,
    /// Where the system does not say when it booted, that is taken to be now.
    begun: Instant,
}

impl Boot {
    pub fn present() -> Self {
        let name = fs::read(NAME).ok().filter(|name| !name.is_empty());
        let number = name.map(|name| crc32fast::hash(&name)).filter(|number| *number != 0);
        Boot { number, begun: Instant::now() }
    }

    pub fn uptime(&self) -> Uptime {
        let since_boot = fs::read_to_string(SINCE_BOOT).ok().as_deref().and_then(seconds);
        Uptime { boot: self.number, since_boot: since_boot.unwrap_or_else(|| self.begun.elapsed()) }
    }
}

/// The first of the numbers in it.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_goes_on_and_says_the_same_boot_to_whoever_asks() {
        assert_eq!(seconds("350735.47 234388.90\n"), Some(Duration::from_millis(350_735_470)));
        for nonsense in ["", "x", "-1 2", "NaN", "1e300", "inf 0"] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
        let first = Boot::present().uptime();
        let second = Boot::present().uptime();
        assert!(!first.since_boot.is_zero() && second.since_boot >= first.since_boot);
        assert_eq!(first.boot, second.boot);
        assert_eq!(first.boot.is_some(), std::path::Path::new(NAME).exists());
    }
}
