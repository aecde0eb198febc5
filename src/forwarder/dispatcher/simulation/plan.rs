//! What kind of world a schedule plays in: which faults there are and how often, drawn from the seed.

use std::time::Duration;

use super::chance::Chance;
use crate::forwarder::dispatcher::Rules;
use crate::forwarder::dispatcher::rules::Bounds;
use crate::settings::{Backoff, ClosedTopics, Ordering};

/// How poison kills: at once, or after younger messages were acknowledged.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Poison {
    AtOnce,
    Late,
}

/// The faults of one schedule. Numbers are percents, `0` where the fault does not happen.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub rules: Rules,
    /// How long faults last; after that the world is as it should be.
    pub faults: Duration,
    pub commits: u64,
    pub keys: usize,
    pub topics: usize,
    pub largest: usize,
    /// Percents of commits that are not synced, and of those that are but whose rows do not say so.
    pub unsynced: u64,
    pub foreign: u64,
    pub spoiled: u64,
    pub poison: u64,
    pub poison_kills: Poison,
    pub bytes_per_second: u64,
    pub latency: Duration,
    pub jitter: Duration,
    pub never: u64,
    pub later: u64,
    pub alone: u64,
    pub alone_for_good: u64,
    pub swallow: u64,
    pub drop: u64,
    pub refuse_session: u64,
    pub silent_connect: u64,
    pub ack_late: u64,
    /// Refusals that were on their way when the session ended: nobody may mind them.
    pub refuse_late: u64,
    /// The mean life of a session, and whether every one lives for exactly that.
    pub flap: Option<(Duration, bool)>,
    pub recycle: bool,
    pub outages: bool,
    pub closings: bool,
    pub disk: bool,
    pub kills: u64,
    pub power_cuts: bool,
    pub stops: u64,
    pub pauses: bool,
    pub by_hand: u64,
    pub keep_alive: Option<Duration>,
    pub answers_pings: bool,
    pub tight_limits: bool,
}

impl Plan {
    pub fn draw(chance: &mut Chance) -> Self {
        let c = chance;
        let some =
            |c: &mut Chance, one_in: u64, low: u64, high: u64| if c.once_in(one_in) { c.between(low, high) } else { 0 };
        let rules = rules(c);
        Plan {
            faults: c.millis(1_000, 60_000),
            commits: c.between(1, 14),
            keys: c.size(0, 3),
            topics: c.size(1, 4),
            largest: if c.once_in(3) { rules.window_bytes * 2 } else { rules.window_bytes / 2 + 1 },
            unsynced: *c.pick(&[0, 0, 50, 100]),
            foreign: *c.pick(&[0, 0, 30]),
            spoiled: some(c, 8, 1, 20),
            poison: some(c, 4, 2, 15),
            poison_kills: *c.pick(&[Poison::AtOnce, Poison::Late]),
            bytes_per_second: *c.pick(&[1_200, 10_000, 1_000_000, 1_000_000]),
            latency: c.millis(0, 200),
            jitter: if c.once_in(3) { c.millis(0, 400) } else { Duration::ZERO },
            never: some(c, 5, 1, 20),
            later: some(c, 2, 1, 60),
            alone: some(c, 6, 1, 30),
            alone_for_good: some(c, 10, 1, 10),
            swallow: some(c, 5, 1, 10),
            drop: some(c, 4, 1, 20),
            refuse_session: some(c, 6, 1, 40),
            silent_connect: some(c, 12, 1, 10),
            ack_late: some(c, 2, 10, 90),
            refuse_late: some(c, 4, 5, 50),
            flap: c.once_in(3).then(|| (c.millis(20, 10_000), c.once_in(2))),
            recycle: c.once_in(8),
            outages: c.once_in(3),
            closings: c.once_in(3),
            disk: c.once_in(6),
            kills: some(c, 3, 1, 4),
            power_cuts: c.once_in(2),
            stops: some(c, 6, 1, 2),
            pauses: c.once_in(8),
            by_hand: some(c, 4, 1, 6),
            keep_alive: (!c.once_in(4)).then(|| c.millis(500, 30_000)),
            answers_pings: !c.once_in(4),
            tight_limits: c.once_in(5),
            rules,
        }
    }
}

fn rules(c: &mut Chance) -> Rules {
    let backoff = |c: &mut Chance, longest: u64| {
        let first = c.millis(5, 500);
        Backoff { first, longest: first.max(c.millis(100, longest)) }
    };
    let bounds = if c.once_in(4) { Bounds::default() } else { tiny(c) };
    Rules {
        window: *c.pick(&[1, 2, 3, 8, 256]),
        window_bytes: *c.pick(&[100, 1_000, 4_000]),
        ordering: *c.pick(&[Ordering::PerKey, Ordering::PerKey, Ordering::Strict]),
        closed_topics: *c.pick(&[ClosedTopics::Hold, ClosedTopics::Hold, ClosedTopics::Hold, ClosedTopics::Park]),
        max_attempts: *c.pick(&[1, 2, 10, 1_000]),
        retry: backoff(c, 10_000),
        reconnect: backoff(c, 10_000),
        ack_timeout: c.millis(1_500, 20_000),
        settle_after: *c.pick(&[Duration::ZERO, Duration::from_millis(50), Duration::from_secs(1)]),
        poll_interval: Duration::from_millis(100),
        bounds,
    }
}

/// So small that everything overflows.
fn tiny(c: &mut Chance) -> Bounds {
    Bounds {
        read_rows: c.size(2, 8),
        read_bytes: c.size(50, 2_000),
        settlements: c.size(1, 8),
        position: c.between(1, 10) as i64,
        lanes: c.size(2, 4),
        active_lanes: c.size(1, 2),
        lane_rows: c.size(1, 3),
        waiting: c.size(1, 4),
        suspects: c.size(1, 2),
    }
}
