//! What can be set, in one place, with units, defaults and bounds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How an [`Outbox`](crate::Outbox) keeps and forwards messages.
///
/// The defaults suit a device that sends a few messages a second. Durations are read by serde as text: `"100ms"`,
/// `"30s"`, `"1h"`. Unknown names are refused.
///
/// ```
/// use std::time::Duration;
/// use edge_outbox::Settings;
///
/// let settings = Settings { retention: Duration::from_secs(600), ..Settings::default() };
/// settings.check()?;
///
/// let settings: Settings = serde_json::from_str(r#"{ "ordering": "strict", "settle_after": "5s" }"#)?;
/// assert_eq!(settings.window, 256);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Largest payload, in bytes, 1 to 268,435,455 (the most that MQTT carries in one packet; some of that goes to the
    /// topic and the headers). Defaults to 262,144 (256 KiB).
    pub max_payload: usize,
    /// Messages in flight: sent and not yet acknowledged, counted from the oldest of them; 1 to 10,000. At most this
    /// many plus 516 are repeated after a crash. Defaults to 256.
    pub window: usize,
    /// Bytes in flight, 1 to 268,435,455; a larger message goes alone. Keep it small on slow links. Defaults to
    /// 65,536 (64 KiB).
    pub window_bytes: usize,
    /// Most messages that may be pending, 1 or more: further ones are answered [`Error::Full`] until some are sent.
    /// Counted in the table, so that every process that sets it keeps to it, and what plain SQL writes counts too. A
    /// message counts until its acknowledgement is written down, see `settle_after`; one that is retried is not asked.
    /// Defaults to `None`: as many as the disk takes.
    pub max_pending: Option<u64>,
    /// Most bytes that pending messages may have together, 1 or more, as [`Message::size`](crate::Message::size)
    /// counts them, but headers by their JSON; the table takes some more. A message that has more than this by itself
    /// is never taken. Otherwise as `max_pending`. Defaults to `None`.
    pub max_pending_bytes: Option<u64>,
    /// Bytes of the disk that the outbox leaves to others, 0 to 1 TiB: where less would be free, new messages are
    /// answered [`Error::Full`]. What the message itself may take, its bytes and 32 KiB, must be there with 0 too.
    /// Defaults to 16,777,216 (16 MiB).
    pub keep_free: u64,
    /// Bytes of a file beside the database, `-outbox-reserve`, that hold a place on the disk, 1 MiB to 1 GiB, or 0
    /// for none. It is given up where the disk is full to the last byte, since to write down that a message was
    /// sent takes space too, and made again afterwards; in between new messages are answered [`Error::Full`]. What the
    /// write-ahead log holds before it is moved into the database should fit: nine hundred pages, and what is committed
    /// within a second. The same in every process that opens the database. Defaults to 4,194,304 (4 MiB).
    pub reserve: u64,
    /// What may overtake what. Defaults to [`Ordering::PerKey`].
    pub ordering: Ordering,
    /// Refusals "for now" that a message is granted before it is parked as FAILED, 1 to 1,000. An unreachable broker
    /// spends none. Defaults to 10.
    pub max_attempts: u32,
    /// The wait after such a refusal. Defaults to 1 s, doubling up to 5 min.
    pub retry: Backoff,
    /// The wait before a new session after one broke or could not be had. A refused session and a closed topic wait
    /// for about the longest time at once. Defaults to 250 ms, doubling up to 60 s.
    pub reconnect: Backoff,
    /// How long the oldest message in flight may go without an answer on a standing session, beside the time that the
    /// bytes in flight need at 1 KiB/s; 1 s to 1 h. Then the session is given up and what is unanswered sent again.
    /// Defaults to 20 s.
    #[serde(with = "humantime_serde")]
    pub ack_timeout: Duration,
    /// What becomes of the messages of a topic that the broker closed to us. Defaults to [`ClosedTopics::Hold`].
    pub closed_topics: ClosedTopics,
    /// How long the table may lag behind the acknowledgements, 0 to 1 min: at most this long, or 500 messages, are
    /// settled together in one transaction. Shorter wears the card more. Defaults to 1 s.
    #[serde(with = "humantime_serde")]
    pub settle_after: Duration,
    /// How long a sent message stays in the table at least, by the wall clock or by the time that the device is on,
    /// whichever says first that it is over (a stamp from the future is over at once). By the second it is over after
    /// twice as long at the latest, so that a device whose clock is never set purges too; after a reboot only the time
    /// up to the first commit is known to have passed. 0 deletes it at the next purge. Purging rides along with later
    /// settlements, 100 rows or more at a time. Defaults to 1 h.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// How often the forwarder looks whether another connection or process has committed, 1 ms to 1 min. Commits
    /// through [`Outbox::transaction`](crate::Outbox::transaction) and [`Outbox::commit`](crate::Outbox::commit) are
    /// noticed at once. Defaults to 100 ms.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    /// How long a call waits for the write lock before it answers [`Error::Busy`], and for a connection of the pool
    /// before it answers [`Error::Pool`], 1 ms to 1 h. A transaction may have to wait for its turn within the process,
    /// for a connection, and for other processes: for each of them so long. A connection that has to be opened first,
    /// which is done once or twice, may take 5 s in any case. Defaults to 5 s.
    #[serde(with = "humantime_serde")]
    pub busy_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_payload: 256 * 1024,
            window: 256,
            window_bytes: 64 * 1024,
            max_pending: None,
            max_pending_bytes: None,
            keep_free: 16 * 1024 * 1024,
            reserve: 4 * 1024 * 1024,
            ordering: Ordering::PerKey,
            max_attempts: 10,
            retry: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(300) },
            reconnect: Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(60) },
            ack_timeout: Duration::from_secs(20),
            closed_topics: ClosedTopics::Hold,
            settle_after: Duration::from_secs(1),
            retention: Duration::from_secs(3600),
            poll_interval: Duration::from_millis(100),
            busy_timeout: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// Checks every setting against its bounds.
    ///
    /// # Errors
    /// [`Error::Settings`] with all that is wrong, in words.
    pub fn check(&self) -> Result<(), Error> {
        const LARGEST_PACKET: u64 = 268_435_455;
        let mut wrong = Vec::new();
        let mut number = |name: &str, value: u64, low: u64, high: u64| {
            if value < low || value > high {
                wrong.push(format!("{name} is {value}; {low} to {high} are allowed"));
            }
        };
        number("max_payload", self.max_payload as u64, 1, LARGEST_PACKET);
        number("window", self.window as u64, 1, 10_000);
        number("window_bytes", self.window_bytes as u64, 1, LARGEST_PACKET);
        number("max_attempts", u64::from(self.max_attempts), 1, 1_000);
        number("max_pending", self.max_pending.unwrap_or(1), 1, u64::MAX);
        number("max_pending_bytes", self.max_pending_bytes.unwrap_or(1), 1, u64::MAX);
        number("keep_free", self.keep_free, 0, 1 << 40);
        if self.reserve != 0 {
            number("reserve", self.reserve, 1 << 20, 1 << 30);
        }

        let mut time = |name: &str, value: Duration, low: Duration, high: Duration| {
            if value < low || value > high {
                wrong.push(format!("{name} is {value:?}; {low:?} to {high:?} are allowed"));
            }
        };
        let (ms, second, hour) = (Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(3600));
        let (minute, day, century) = (second * 60, hour * 24, hour * 24 * 36_525);
        time("retry.first", self.retry.first, ms, day);
        time("retry.longest", self.retry.longest, self.retry.first.min(day), day);
        time("reconnect.first", self.reconnect.first, ms, day);
        time("reconnect.longest", self.reconnect.longest, self.reconnect.first.min(day), day);
        time("ack_timeout", self.ack_timeout, second, hour);
        time("settle_after", self.settle_after, Duration::ZERO, minute);
        time("retention", self.retention, Duration::ZERO, century);
        time("poll_interval", self.poll_interval, ms, minute);
        time("busy_timeout", self.busy_timeout, ms, hour);
        if wrong.is_empty() { Ok(()) } else { Err(Error::Settings(wrong)) }
    }
}

/// Exponential backoff with full jitter: the n-th wait, from 1, is drawn between 0 and `first` × 2ⁿ⁻¹, at most
/// `longest`.
/// Measured on the monotonic clock. 1 ms to 24 h each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// The upper end of the first wait.
    #[serde(with = "humantime_serde")]
    pub first: Duration,
    /// The upper end of all later ones.
    #[serde(with = "humantime_serde")]
    pub longest: Duration,
}

/// What may overtake what. In each case messages of one key are first *sent* in the order of their commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ordering {
    /// Many messages of a key may be in flight. One that is refused for now is not overtaken by any that had not yet
    /// been sent; those already in flight may arrive before its retry.
    #[default]
    PerKey,
    /// At most one unsettled message of a key is in flight: nothing overtakes, and a key gets at most one message
    /// through per round trip.
    Strict,
}

/// What becomes of messages whose topic the broker closed (not authorised, unknown, quota).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClosedTopics {
    /// They wait, nothing is charged to them, and the topic is tried again: a wrong access list gets mended, and the
    /// backlog then goes by itself.
    #[default]
    Hold,
    /// They are parked as FAILED at once.
    Park,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value of each setting at and beyond its bounds, and whether it is one that is allowed.
    type Choice<T> = [(T, bool)];

    fn pick<T: Copy>(from: &Choice<T>, seed: &mut u64, wrong: &mut usize) -> T {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (value, allowed) = from[(*seed >> 33) as usize % from.len()];
        *wrong += usize::from(!allowed);
        value
    }

    fn bounds(low: Duration, high: Duration) -> Vec<(Duration, bool)> {
        let step = Duration::from_nanos(1);
        let below = low.checked_sub(step).map(|below| (below, false));
        [(low, true), (high, true), (high + step, false), (Duration::MAX, false)].into_iter().chain(below).collect()
    }

    fn numbers(high: usize) -> [(usize, bool); 5] {
        [(1, true), (high, true), (0, false), (high + 1, false), (usize::MAX, false)]
    }

    #[test]
    fn of_any_settings_every_mistake_is_told_and_nothing_else() {
        let (ms, second, hour) = (Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(3600));
        let (day, century) = (hour * 24, hour * 24 * 36_525);
        let reserves =
            [(0, true), (1 << 20, true), (1 << 30, true), (1, false), ((1 << 30) + 1, false), (u64::MAX, false)];
        let attempts = [(1, true), (1_000, true), (0, false), (1_001, false), (u32::MAX, false)];
        for seed in 0..20_000 {
            let (mut seed, mut wrong) = (seed, 0);
            let (seed, wrong) = (&mut seed, &mut wrong);
            let mut backoff = || {
                let first = pick(&bounds(ms, day), seed, wrong);
                let longest = pick(&bounds(ms, day), seed, &mut 0);
                *wrong += usize::from(longest < first.min(day) || longest > day);
                Backoff { first, longest }
            };
            let (retry, reconnect) = (backoff(), backoff());
            let settings = Settings {
                max_payload: pick(&numbers(268_435_455), seed, wrong),
                window: pick(&numbers(10_000), seed, wrong),
                window_bytes: pick(&numbers(268_435_455), seed, wrong),
                max_pending: pick(
                    &[(None, true), (Some(1), true), (Some(u64::MAX), true), (Some(0), false)],
                    seed,
                    wrong,
                ),
                max_pending_bytes: pick(&[(None, true), (Some(u64::MAX), true), (Some(0), false)], seed, wrong),
                keep_free: pick(&[(0, true), (1 << 40, true), ((1 << 40) + 1, false), (u64::MAX, false)], seed, wrong),
                reserve: pick(&reserves, seed, wrong),
                ordering: Ordering::Strict,
                max_attempts: pick(&attempts, seed, wrong),
                retry,
                reconnect,
                ack_timeout: pick(&bounds(second, hour), seed, wrong),
                closed_topics: ClosedTopics::Park,
                settle_after: pick(&bounds(Duration::ZERO, second * 60), seed, wrong),
                retention: pick(&bounds(Duration::ZERO, century), seed, wrong),
                poll_interval: pick(&bounds(ms, second * 60), seed, wrong),
                busy_timeout: pick(&bounds(ms, hour), seed, wrong),
            };
            match settings.check() {
                Ok(()) => assert_eq!(*wrong, 0, "{settings:?}"),
                Err(Error::Settings(told)) => {
                    assert_eq!(told.len(), *wrong, "{settings:#?}: {told:#?}");
                    assert!(
                        told.iter().all(|words| words.contains(" is ") && words.contains("are allowed")),
                        "{told:?}"
                    );
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}
