//! Chance for the backoff, as a part of the dispatcher's state: the same seed gives the same run.

use std::time::Duration;

use crate::settings::Backoff;

/// A small generator (SplitMix64), or none: then every draw is its upper end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Dice(Option<u64>);

impl Dice {
    pub fn seeded(seed: u64) -> Self {
        Dice(Some(seed))
    }

    /// Nothing is left to chance.
    #[cfg(test)]
    pub fn none() -> Self {
        Dice(None)
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        let Some(state) = &mut self.0 else { return most };
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(z % (micros + 1))
    }

    /// The wait after the `failures`-th failure in a row (from 1 on): full jitter, so that a fleet which lost its
    /// broker at one moment does not come back at one moment.
    pub fn backoff(&mut self, backoff: Backoff, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let most = backoff.first.saturating_mul(1 << doublings).min(backoff.longest);
        self.up_to(most)
    }

    /// The slow end of it: between half of the longest wait and all of it.
    pub fn slow(&mut self, backoff: Backoff) -> Duration {
        let half = backoff.longest / 2;
        half + self.up_to(half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(60) };

    #[test]
    fn a_wait_never_exceeds_the_doubled_first_nor_the_longest() {
        let mut dice = Dice::seeded(7);
        for failures in 1..200 {
            let most = Duration::from_millis(250 << (failures - 1).min(20)).min(BACKOFF.longest);
            assert!(dice.backoff(BACKOFF, failures) <= most);
            let slow = dice.slow(BACKOFF);
            assert!(slow >= BACKOFF.longest / 2 && slow <= BACKOFF.longest);
        }
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let mut dice = Dice::seeded(1);
        let early = (0..1_000).filter(|_| dice.backoff(BACKOFF, 20) < BACKOFF.longest / 2).count();
        assert!((400..600).contains(&early), "{early} of 1,000 waits in the first half");
    }
}
