//! Figures as people read them.

use std::time::Duration;

/// `12.3 kB`-like sizes are for people; JSON has plain bytes.
pub fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

pub fn count(count: u64) -> String {
    indicatif::HumanCount(count).to_string()
}

pub fn duration(duration: Duration) -> String {
    indicatif::HumanDuration(duration).to_string()
}

/// `1 message is`, `1,234 messages are`.
pub fn number_of(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}
