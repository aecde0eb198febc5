//! Chance that can be had again: by the environment variable `EDGE_OUTBOX_SEED`.

use std::cell::Cell;
use std::env;
use std::hash::{BuildHasher, RandomState};

pub struct Chance(Cell<u64>);

impl Chance {
    /// Prints its seed.
    pub fn new() -> Self {
        let fresh = || RandomState::new().hash_one(0);
        let seed = env::var("EDGE_OUTBOX_SEED").map_or_else(|_| fresh(), |seed| seed.parse().expect("a number"));
        println!("EDGE_OUTBOX_SEED={seed}");
        Chance(Cell::new(seed))
    }

    /// One that goes its own way from here.
    pub fn split(&self) -> Self {
        Chance(Cell::new(self.next()))
    }

    pub fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let z = self.0.get();
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&self, end: u64) -> u64 {
        self.next() % end
    }
}
