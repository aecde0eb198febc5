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
    /// Within a quarter of an hour.
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

fn rules(window: usize) -> Rules {
    let second = Duration::from_secs(1);
    let backoff = Backoff { first: second, longest: second };
    Rules {
        window,
        window_bytes: 1_000,
        ordering: Ordering::PerKey,
        closed_topics: ClosedTopics::Hold,
        max_attempts: 2,
        retry: backoff,
        reconnect: backoff,
        ack_timeout: 2 * second,
        settle_after: second,
        poll_interval: second,
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

/// All of them, in the size that is asked for.
pub(super) fn configurations(size: Size) -> Vec<Configuration> {
    use Fault::*;
    let of = |name, committed, keys: [&str; 3], faults: [&[(Fault, u8)]; 3]| {
        let (keys, faults) = (keys[size as usize], faults[size as usize]);
        let verdicts =
            [(Later, Verdict::Later), (Never, Verdict::Never), (Alone, Verdict::Alone), (Topic, Verdict::Topic)];
        let budget = Faults::new(faults);
        let mut verdicts: Vec<_> =
            verdicts.into_iter().filter(|(fault, _)| budget.left(*fault)).map(|(_, verdict)| verdict).collect();
        if budget.left(LateRefusal) && verdicts.is_empty() {
            verdicts = vec![Verdict::Never, Verdict::Later];
        }
        Configuration { name, rules: rules(2), rows: rows(keys), committed, faults: budget, verdicts }
    };
    let mut all = vec![
        of(
            "crashes",
            1,
            ["aab", "aab-", "aabb-"],
            [
                &[(Crash, 1), (Cut, 1)],
                &[(Crash, 2), (Cut, 1), (LoseAnswer, 1)],
                &[(Crash, 2), (Cut, 2), (LoseAnswer, 1)],
            ],
        ),
        of(
            "cuts",
            1,
            ["aab", "aab-", "aabb-"],
            [
                &[(Cut, 2), (Drop, 1)],
                &[(Cut, 2), (Drop, 1), (NoSession, 1), (LoseAnswer, 1)],
                &[(Cut, 3), (Drop, 1), (NoSession, 1), (LoseAnswer, 1)],
            ],
        ),
        of(
            "late answers",
            1,
            ["aab", "aab-", "aabb-"],
            [
                &[(Cut, 1), (LateAnswer, 1), (LateRefusal, 1)],
                &[(Cut, 1), (LateAnswer, 2), (LateRefusal, 1), (Silence, 1)],
                &[(Cut, 2), (LateAnswer, 2), (LateRefusal, 1), (Silence, 1)],
            ],
        ),
        of(
            "refusals",
            1,
            ["aab", "aab-", "aab-b"],
            [
                &[(Later, 1), (Never, 1)],
                &[(Later, 2), (Never, 1), (Alone, 1), (Cut, 1)],
                &[(Later, 2), (Never, 1), (Alone, 1), (Cut, 1), (Crash, 1)],
            ],
        ),
        of(
            "closed topics",
            2,
            ["aA=", "aA-=", "aA-=b"],
            [
                &[(Topic, 1), (Crash, 1)],
                &[(Topic, 2), (Crash, 1), (Cut, 1)],
                &[(Topic, 2), (Crash, 1), (Cut, 1), (Later, 1)],
            ],
        ),
        of(
            "disk",
            1,
            ["aab", "aab-", "aabb-"],
            [
                &[(Write, 1), (Crash, 1)],
                &[(Write, 2), (Crash, 1), (Cut, 1)],
                &[(Write, 2), (Crash, 1), (Cut, 1), (Later, 1)],
            ],
        ),
        of(
            "stops",
            1,
            ["aab", "aab-", "aabb-"],
            [
                &[(Stop, 1), (LoseAnswer, 1)],
                &[(Stop, 2), (LoseAnswer, 1), (Cut, 1)],
                &[(Stop, 2), (LoseAnswer, 1), (Cut, 1), (Later, 1)],
            ],
        ),
    ];
    let mut strict = of(
        "strict ordering",
        2,
        ["aab", "aaab", "aaabb"],
        [
            &[(Cut, 1), (Later, 1)],
            &[(Cut, 1), (Later, 1), (Crash, 1), (LoseAnswer, 1)],
            &[(Cut, 2), (Later, 1), (Crash, 1), (LoseAnswer, 1)],
        ],
    );
    strict.rules.ordering = Ordering::Strict;
    let mut power = of(
        "power cuts",
        1,
        ["aab", "aab-", "aabb-"],
        [&[(PowerCut, 1), (Cut, 1)], &[(PowerCut, 2), (Cut, 1)], &[(PowerCut, 2), (Crash, 1), (Cut, 1)]],
    );
    let durability = [Durability::Unsynced, Durability::Foreign, Durability::Unsynced, Durability::Synced];
    power.rows.iter_mut().zip(durability.into_iter().cycle()).for_each(|(row, how)| row.durability = how);
    all.extend([strict, power]);
    all
}
