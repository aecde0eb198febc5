//! Chance from a seed: the same seed gives the same plan.
#![allow(dead_code, reason = "each user includes this file and takes what it needs")]

use std::ops::RangeInclusive;
use std::time::Duration;

/// A small generator (SplitMix64).
pub struct Chance(u64);

impl Chance {
    pub fn seeded(seed: u64) -> Self {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn of(&mut self, range: RangeInclusive<usize>) -> usize {
        let (low, high) = range.into_inner();
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    pub fn one_in(&mut self, times: usize) -> bool {
        self.of(1..=times) == 1
    }

    pub fn ms(&mut self, range: RangeInclusive<usize>) -> Duration {
        Duration::from_millis(self.of(range) as u64)
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.of(0..=from.len() - 1)]
    }

    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.of(0..=last));
        }
    }
}
