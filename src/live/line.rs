//! The line: an object with a version, to which later versions of this crate may add fields.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::inspector::Live;
use crate::status::{ClosedTopic, LinkState, Role, Status, Storage};

/// What a reader must know to understand the line: raised when a field changes its meaning or goes.
const VERSION: u64 = 1;

/// Bytes of closed topics and their reasons, as they are written.
const MOST_OF_TOPICS: usize = 64 * 1024;
/// A century, in milliseconds: nobody says more than that in earnest, and with more a reader's sums may overflow.
const LONGEST: u64 = 100 * 365 * 24 * 3_600 * 1_000;
/// Bytes of any reason.
const MOST_OF_WORDS: usize = 2 * 1024;

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    version: u64,
    pid: u32,
    active_for_ms: u64,
    role: RoleWord,
    link: Link,
    closed_topics: Vec<Topic>,
    closed_topics_total: u64,
    storage: Storing,
    failed: Option<String>,
    sent: u64,
    damaged: u64,
    in_flight: u64,
    reconnects: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Role", rename_all = "snake_case")]
enum RoleDef {
    Writer,
    Standby,
    Active,
    Stopped,
}

#[derive(Serialize, Deserialize)]
struct RoleWord(#[serde(with = "RoleDef")] Role);

/// Moments of one process say nothing to another: how far they are from now does.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Link {
    Connecting,
    Up,
    Offline { since_ms: u64, next_try_ms: u64, why: String },
    Refused { since_ms: u64, next_try_ms: u64, why: String },
    TopicsClosed { since_ms: u64, next_try_ms: u64 },
    Paused,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Storing {
    Ok,
    Busy,
    Full,
    Damaged { why: String },
    Replaced { why: String },
    Failing { why: String },
}

#[derive(Serialize, Deserialize)]
struct Topic {
    topic: String,
    reason: String,
}

/// Words that come from a broker or from the system, and no more of them than a line takes.
fn cut(text: &str) -> String {
    if text.len() <= MOST_OF_WORDS {
        return text.to_owned();
    }
    let fits = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MOST_OF_WORDS).last();
    format!("{}…", &text[..fits.unwrap_or(0)])
}

/// As many of the topics as a line takes.
pub(crate) fn first_of(topics: &[ClosedTopic]) -> Vec<ClosedTopic> {
    let mut left = MOST_OF_TOPICS;
    let short = |closed: &ClosedTopic| ClosedTopic { topic: closed.topic.clone(), reason: cut(&closed.reason) };
    let mut fits = |closed: &ClosedTopic| match left.checked_sub(written(&closed.topic) + written(&closed.reason)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    // Looked at before it is copied: a topic may have 65,535 bytes.
    topics
        .iter()
        .filter(|closed| closed.topic.len() < MOST_OF_TOPICS)
        .map(short)
        .filter(|closed| fits(closed))
        .collect()
}

/// Bytes that a text takes in JSON.
fn written(text: &str) -> usize {
    let of = |c: char| match c {
        '\0'..='\x1f' => 6,
        '"' | '\\' => 2,
        _ => c.len_utf8(),
    };
    text.chars().map(of).sum::<usize>() + r#"{"topic":"","#.len()
}

/// The line, with its end. `now`: from when durations are counted.
pub(crate) fn encode(live: &Live, now: Instant) -> Vec<u8> {
    let Status { role, link, closed_topics, storage, failed } = &live.status;
    let topic = |closed: &ClosedTopic| Topic { topic: closed.topic.clone(), reason: closed.reason.clone() };
    let since = |since: &Instant| millis(now.saturating_duration_since(*since));
    let until = |until: &Instant| millis(until.saturating_duration_since(now));
    let line = Line {
        version: VERSION,
        pid: live.process,
        active_for_ms: millis(live.active_for),
        role: RoleWord(*role),
        link: match link {
            LinkState::Connecting => Link::Connecting,
            LinkState::Up => Link::Up,
            LinkState::Offline { since: begun, next_try, why } => {
                Link::Offline { since_ms: since(begun), next_try_ms: until(next_try), why: cut(why) }
            }
            LinkState::Refused { since: begun, next_try, why } => {
                Link::Refused { since_ms: since(begun), next_try_ms: until(next_try), why: cut(why) }
            }
            LinkState::TopicsClosed { since: begun, next_try } => {
                Link::TopicsClosed { since_ms: since(begun), next_try_ms: until(next_try) }
            }
            LinkState::Paused => Link::Paused,
        },
        closed_topics: closed_topics.iter().map(topic).collect(),
        closed_topics_total: live.closed_topics,
        storage: match storage {
            Storage::Ok => Storing::Ok,
            Storage::Busy => Storing::Busy,
            Storage::Full => Storing::Full,
            Storage::Damaged(why) => Storing::Damaged { why: cut(why) },
            Storage::Replaced(why) => Storing::Replaced { why: cut(why) },
            Storage::Failing(why) => Storing::Failing { why: cut(why) },
        },
        failed: failed.as_deref().map(cut),
        sent: live.sent,
        damaged: live.damaged,
        in_flight: live.in_flight,
        reconnects: live.reconnects,
    };
    // Numbers and text only: there is nothing that JSON could not take.
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// What the line says, or in words why that is not understood. `now`: from when durations are counted.
pub(crate) fn decode(line: &[u8], now: Instant) -> Result<Live, String> {
    let not_understood = |error: serde_json::Error| format!("its answer is not understood ({error})");
    let Versioned { version } = serde_json::from_slice(line).map_err(not_understood)?;
    if version != VERSION {
        return Err(format!(
            "its answer has version {version}, and {VERSION} is understood here: use the edge-outbox of the forwarder"
        ));
    }
    let line: Line = serde_json::from_slice(line).map_err(not_understood)?;
    let closed_topics = line.closed_topics.into_iter().map(|Topic { topic, reason }| ClosedTopic { topic, reason });
    let since = |ms| now.checked_sub(duration(ms)).unwrap_or(now);
    let next_try = |ms| now.checked_add(duration(ms)).unwrap_or(now);
    let status = Status {
        role: line.role.0,
        link: match line.link {
            Link::Connecting => LinkState::Connecting,
            Link::Up => LinkState::Up,
            Link::Offline { since_ms, next_try_ms, why } => {
                LinkState::Offline { since: since(since_ms), next_try: next_try(next_try_ms), why }
            }
            Link::Refused { since_ms, next_try_ms, why } => {
                LinkState::Refused { since: since(since_ms), next_try: next_try(next_try_ms), why }
            }
            Link::TopicsClosed { since_ms, next_try_ms } => {
                LinkState::TopicsClosed { since: since(since_ms), next_try: next_try(next_try_ms) }
            }
            Link::Paused => LinkState::Paused,
        },
        closed_topics: closed_topics.collect(),
        storage: match line.storage {
            Storing::Ok => Storage::Ok,
            Storing::Busy => Storage::Busy,
            Storing::Full => Storage::Full,
            Storing::Damaged { why } => Storage::Damaged(why),
            Storing::Replaced { why } => Storage::Replaced(why),
            Storing::Failing { why } => Storage::Failing(why),
        },
        failed: line.failed,
    };
    Ok(Live {
        process: line.pid,
        active_for: duration(line.active_for_ms),
        status,
        closed_topics: line.closed_topics_total,
        sent: line.sent,
        damaged: line.damaged,
        in_flight: line.in_flight,
        reconnects: line.reconnects,
    })
}

fn duration(ms: u64) -> Duration {
    Duration::from_millis(ms.min(LONGEST))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(status: Status) -> Live {
        let closed_topics = status.closed_topics.len() as u64;
        Live {
            process: 42,
            active_for: Duration::from_millis(1_234),
            status,
            closed_topics,
            sent: 1,
            damaged: 2,
            in_flight: 3,
            reconnects: u64::MAX,
        }
    }

    fn status() -> Status {
        Status {
            role: Role::Active,
            link: LinkState::Up,
            closed_topics: Vec::new(),
            storage: Storage::Ok,
            failed: None,
        }
    }

    #[test]
    fn every_state_comes_out_as_it_went_in() {
        let now = Instant::now() + Duration::from_secs(1_000);
        let words = || "\"wörds\"\n\0".to_owned();
        let links = [
            LinkState::Connecting,
            LinkState::Up,
            LinkState::Offline {
                since: now - Duration::from_millis(90_001),
                next_try: now + Duration::from_millis(7),
                why: words(),
            },
            LinkState::Refused { since: now - Duration::from_millis(1), next_try: now, why: words() },
            LinkState::TopicsClosed { since: now, next_try: now + Duration::from_secs(60) },
            LinkState::Paused,
        ];
        let storages = [
            Storage::Ok,
            Storage::Busy,
            Storage::Full,
            Storage::Damaged(words()),
            Storage::Replaced(words()),
            Storage::Failing(words()),
        ];
        let roles = [Role::Writer, Role::Standby, Role::Active, Role::Stopped];
        let mut told: Vec<Status> = links.map(|link| Status { link, ..status() }).into();
        told.extend(storages.map(|storage| Status { storage, ..status() }));
        told.extend(roles.map(|role| Status { role, ..status() }));
        told.push(Status { closed_topics: vec![ClosedTopic::new("a/b", &words())], failed: Some(words()), ..status() });
        for status in told {
            let live = live(status);
            let line = encode(&live, now);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
            assert_eq!(decode(&line, now), Ok(live));
        }
    }

    #[test]
    fn moments_that_have_passed_are_now_and_none_is_beyond_a_century() {
        let now = Instant::now() + Duration::from_secs(1_000);
        let next_try = now - Duration::from_secs(5);
        let late = LinkState::Offline { since: now + Duration::from_secs(5), next_try, why: String::new() };
        let line = encode(&live(Status { link: late, ..status() }), now);
        let at_once = LinkState::Offline { since: now, next_try: now, why: String::new() };
        assert_eq!(decode(&line, now).expect("a line").status.link, at_once);
        let never = String::from_utf8(line).expect("text").replace("_ms\":0", &format!("_ms\":{}", u64::MAX));
        match decode(never.as_bytes(), now).expect("a line").status.link {
            LinkState::Offline { next_try, .. } => assert_eq!(next_try - now, Duration::from_millis(LONGEST)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fields_of_later_versions_are_passed_over_and_later_versions_are_named() {
        let now = Instant::now();
        let line = String::from_utf8(encode(&live(status()), now)).expect("text");
        let later = line.replace(r#"{"version":1,"#, r#"{"version":1,"new":[{"a":1}],"#);
        assert_eq!(decode(later.replace(r#""up""#, r#""up","new":1"#).as_bytes(), now), Ok(live(status())));
        let words = decode(br#"{"version":2,"forwarder":{}}"#, now).expect_err("another version");
        assert!(words.contains("version 2"), "{words}");
        for nonsense in ["", "x", "{}", "[1]", r#"{"version":1}"#, &line.replace("up", "sideways"), "\u{0}\u{ff}"] {
            assert!(decode(nonsense.as_bytes(), now).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_line_is_short_whatever_brokers_and_disks_say() {
        let endless = "\u{1}ü\"".repeat(100_000);
        let topics: Vec<_> =
            (0..1_024).map(|n| ClosedTopic::new(&format!("{n}/{}", "\"".repeat(n)), &endless)).collect();
        let some = first_of(&topics);
        assert!((3..1_024).contains(&some.len()), "{}", some.len());
        assert!(some.iter().all(|closed| closed.reason.len() <= MOST_OF_WORDS + '…'.len_utf8()));
        let (since, next_try) = (Instant::now(), Instant::now());
        let link = LinkState::Refused { since, next_try, why: endless.clone() };
        let storage = Storage::Failing(endless.clone());
        let full = Status { link, storage, closed_topics: some, failed: Some(endless), ..status() };
        let length = encode(&live(full), Instant::now()).len();
        assert!(length < 128 * 1024, "{length}");
        let longest = ClosedTopic::new(&"t".repeat(65_535), "");
        assert_eq!(first_of(&[longest, ClosedTopic::new("short", "")]), [ClosedTopic::new("short", "")]);
    }
}
