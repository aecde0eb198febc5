//! The small worlds that are explored, one after the other: which rows, which rules, what may go wrong how often.

use std::sync::Arc;
use std::time::Duration;

use super::faults::{Fault, Faults};
use super::world::name;
use crate::broker::Verdict;
use crate::forwarder::dispatcher::Rules;
use crate::forwarder::dispatcher::rules::Bounds;
use crate::settings::{Backoff, ClosedTopics, Ordering};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Durability {
    Synced,
    /// Synced, by somebody whose rows do not say so.
    Foreign,
    /// Not before somebody else's commit is.
    Unsynced,
}

#[derive(Clone, Debug)]
pub(super) struct NewRow {
    pub topic: Arc<str>,
    pub key: Option<Arc<str>>,
    pub durability: Durability,
}

/// How much is explored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Size {
    /// Within seconds, with every `cargo test`.
    Small,
    /// Within a minute.
    Large,
    /// Within ten minutes or so.
    Full,
}

#[derive(Clone, Debug)]
pub(super) struct Configuration {
    pub name: &'static str,
    pub rules: Rules,
    /// In the order of their commits.
    pub rows: Vec<NewRow>,
    /// Rows that stand in the table at the beginning; the others are committed at any time.
    pub committed: usize,
    pub faults: Faults,
    /// How the broker refuses.
    pub verdicts: Vec<Verdict>,
}

impl Configuration {
    pub fn disk_fails(&self) -> bool {
        self.faults.left(Fault::Write)
    }
}

/// Whatever takes a time takes this one, so that moments coincide and there are few of them. The dispatcher's own pause
/// between rounds over the lanes is as long.
pub(super) const UNIT: Duration = Duration::from_secs(5);

fn rules(window: usize) -> Rules {
    let backoff = Backoff { first: UNIT, longest: UNIT };
    Rules {
        window,
        window_bytes: 1_000,
        ordering: Ordering::PerKey,
        closed_topics: ClosedTopics::Hold,
        max_attempts: 2,
        retry: backoff,
        reconnect: backoff,
        ack_timeout: 2 * UNIT,
        settle_after: UNIT,
        poll_interval: UNIT,
        bounds: Bounds {
            read_rows: 3,
            read_bytes: 1_000,
            settlements: 2,
            position: 2,
            lanes: 2,
            active_lanes: 1,
            lane_rows: 2,
            waiting: 1,
            suspects: 1,
        },
    }
}

/// Rows by their keys: `"aab-"` is two of key a, one of key b, one without a key. A capital letter is the same key, on a
/// topic of its own.
fn rows(keys: &str) -> Vec<NewRow> {
    let (topic, other) = (name("t"), name("u"));
    let names: Vec<Arc<str>> = ["a", "b"].map(name).to_vec();
    let row = |letter: char| {
        let key = names.iter().find(|name| ***name == *letter.to_lowercase().to_string()).cloned();
        let topic = if letter.is_uppercase() || letter == '=' { &other } else { &topic };
        NewRow { topic: topic.clone(), key, durability: Durability::Synced }
    };
    keys.chars().map(row).collect()
}

/// How many rows stand in the table at the beginning, all rows, and what may go wrong how often.
type Worlds = [(usize, &'static str, &'static [(Fault, u8)]); 3];

/// All of them, in the size that is asked for.
pub(super) fn configurations(size: Size) -> Vec<Configuration> {
    use Fault::*;
    let of = |name, window, worlds: Worlds| {
        let (committed, keys, faults) = worlds[size as usize];
        let faults = Faults::new(faults);
        let verdicts = [Verdict::Later, Verdict::Never, Verdict::Alone, Verdict::Topic];
        let verdicts = verdicts.into_iter().filter(|verdict| faults.left(Fault::refusal(*verdict))).collect();
        Configuration { name, rules: rules(window), rows: rows(keys), committed, faults, verdicts }
    };
    let crashes = of(
        "crashes",
        2,
        [
            (3, "aab", &[(Crash, 1), (Cut, 1)]),
            (1, "aab", &[(Crash, 1), (Cut, 1), (Silence, 1)]),
            (2, "aab-", &[(Crash, 2), (Cut, 1), (LoseAnswer, 1)]),
        ],
    );
    let wide = of(
        "a window of three",
        3,
        [
            (4, "aaab", &[(Crash, 1)]),
            (2, "aaab", &[(Crash, 1), (Cut, 1)]),
            (3, "aaab-", &[(Crash, 1), (Cut, 1), (LoseAnswer, 1)]),
        ],
    );
    let cuts = of(
        "cuts",
        2,
        [
            (3, "aab", &[(Cut, 1), (Drop, 1), (LoseAnswer, 1)]),
            (1, "aab", &[(Cut, 1), (Drop, 1), (NoSession, 1)]),
            (2, "aab", &[(Cut, 2), (Drop, 1), (NoSession, 1), (LoseAnswer, 1)]),
        ],
    );
    let late = of(
        "late answers",
        2,
        [
            (1, "aa", &[(Cut, 1), (LateAnswer, 1), (LateRefusal, 1), (Never, 1)]),
            (1, "aab", &[(Cut, 1), (LateAnswer, 1), (LateRefusal, 1), (Never, 1)]),
            (2, "aab", &[(Cut, 2), (LateAnswer, 2), (LateRefusal, 1), (Later, 1), (Silence, 1)]),
        ],
    );
    let refusals = of(
        "refusals",
        2,
        [
            (2, "aab", &[(Later, 1), (Never, 1)]),
            (1, "aab", &[(Later, 2), (Never, 1), (Alone, 1)]),
            (2, "aab-", &[(Later, 2), (Never, 1), (Alone, 2), (Cut, 1)]),
        ],
    );
    let topics = of(
        "closed topics",
        2,
        [
            (2, "aA=", &[(Topic, 1), (Crash, 1)]),
            (2, "aA=-", &[(Topic, 2), (Crash, 1)]),
            (3, "aA=-", &[(Topic, 2), (Crash, 1), (Cut, 1), (Later, 1)]),
        ],
    );
    let disk = of(
        "disk",
        2,
        [
            (2, "aab", &[(Write, 1), (Crash, 1)]),
            (1, "aab", &[(Write, 2), (Crash, 1)]),
            (2, "aab-", &[(Write, 2), (Crash, 1), (Cut, 1), (Later, 1)]),
        ],
    );
    let stops = of(
        "stops",
        2,
        [
            (2, "aab", &[(Stop, 1), (LoseAnswer, 1)]),
            (1, "aab", &[(Stop, 1), (LoseAnswer, 1), (Cut, 1)]),
            (2, "aab", &[(Stop, 2), (LoseAnswer, 1), (Cut, 1), (Later, 1)]),
        ],
    );
    let mut strict = of(
        "strict ordering",
        2,
        [
            (3, "aab", &[(Cut, 1), (Later, 1)]),
            (1, "aab", &[(Cut, 1), (Later, 1)]),
            (2, "aaab", &[(Cut, 2), (Later, 1), (Crash, 1), (LoseAnswer, 1)]),
        ],
    );
    strict.rules.ordering = Ordering::Strict;
    let mut power = of(
        "power cuts",
        2,
        [
            (2, "aab", &[(PowerCut, 1), (Write, 1)]),
            (1, "aab", &[(PowerCut, 1), (Cut, 1), (Write, 1)]),
            (1, "aab-", &[(PowerCut, 2), (Cut, 1), (Write, 1)]),
        ],
    );
    let durability = [Durability::Unsynced, Durability::Foreign, Durability::Unsynced, Durability::Synced];
    power.rows.iter_mut().zip(durability.into_iter().cycle()).for_each(|(row, how)| row.durability = how);
    // The largest first: each is one thread's work.
    vec![wide, topics, stops, late, cuts, refusals, strict, disk, power, crashes]
}
