//! Chance for a schedule: the same seed draws the same world.

use std::time::Duration;

/// SplitMix64, apart from the dispatcher's own dice so that neither disturbs the other.
#[derive(Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance(seed ^ 0x5851_f42d_4c95_7f2d);
        chance.draw();
        chance
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high - low + 1)
    }

    pub fn size(&mut self, low: usize, high: usize) -> usize {
        low + (self.draw() % (high - low + 1) as u64) as usize
    }

    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1_000, high * 1_000))
    }

    /// Once in `times`; never if that is 0.
    pub fn once_in(&mut self, times: u64) -> bool {
        times != 0 && self.draw() % times == 0
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.draw() % 100 < percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[(self.draw() % of.len() as u64) as usize]
    }

    /// A time without memory, as links break: exponential, `mean` on average.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let unit = ((self.draw() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        mean.mul_f64(-unit.ln())
    }
}
