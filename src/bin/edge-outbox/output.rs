//! What people read: figures with units and separators, and texts that may come from anybody.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// `1.46 KiB`; JSON has plain bytes.
pub fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// `1,234`
pub fn count(count: u64) -> String {
    indicatif::HumanCount(count).to_string()
}

/// `1 message`, `1,234 messages`
pub fn counted(number: u64, one: &str) -> String {
    let many = if number == 1 { "" } else { "s" };
    format!("{} {one}{many}", count(number))
}

/// `20 ms`, `3 seconds`, `2 weeks`
pub fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        _ => indicatif::HumanDuration(duration).to_string(),
    }
}

/// `3s`, `2w`: for a column.
pub fn brief(duration: Duration) -> String {
    format!("{:#}", indicatif::HumanDuration(duration))
}

/// How long ago, by the wall clock; `None` for what is still to come.
pub fn age(time: SystemTime) -> Option<Duration> {
    SystemTime::now().duration_since(time).ok()
}

/// In UTC, by RFC 3339; `None` for what it has no form for: a damaged row may be of the year 292278994.
pub fn stamp(time: SystemTime) -> Option<String> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_millis(time)).ok()?;
    Some(text)
}

/// A text in one line that does nothing to a terminal, whatever stands in it.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// A file's path, in one line.
pub fn path(path: &Path) -> String {
    line(&path.display().to_string())
}

/// [`line`], but with its tabs and its ends of lines.
pub fn lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, kept: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if kept(c) || !is_hidden(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    shown
}

/// Control characters, and those that change the direction of what follows or take no place.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

/// At most so many characters, with a sign that there were more.
pub fn cut(text: &str, columns: usize) -> String {
    match text.char_indices().nth(columns) {
        None => text.to_owned(),
        Some(_) => text.chars().take(columns.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{cut, line, lines, stamp};

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(line("a\x1b[2Jb\nc\td"), "a\\u{1b}[2Jb\\nc\\td");
        assert_eq!(line("\u{9b}2J \u{7f} \u{202e}txt"), "\\u{9b}2J \\u{7f} \\u{202e}txt");
        assert_eq!(line("Grüße, 天気 🌧"), "Grüße, 天気 🌧");
        assert_eq!(lines("a\tb\nc\r\x1b"), "a\tb\nc\\r\\u{1b}");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("weather", 7), "weather");
        assert_eq!(cut("weather", 6), "weath…");
        assert_eq!(cut("天気です", 3), "天気…");
    }

    #[test]
    fn a_time_that_rfc_3339_cannot_write_is_none() {
        assert_eq!(stamp(UNIX_EPOCH).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(stamp(UNIX_EPOCH + Duration::from_millis(i64::MAX as u64)), None);
        assert_eq!(stamp(UNIX_EPOCH - Duration::from_millis(1)), None);
    }
}
