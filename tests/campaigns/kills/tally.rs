//! What was done, in figures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Faults that hit, for each kill, so that a run of 1,500 has a thousand.
const FAULTS_PER_KILL: f64 = 0.7;
/// So many kinds of them there must have been.
const KINDS: usize = 9;
/// A word is said after so many kills.
const WORD: u64 = 1_000;

#[derive(Clone)]
pub struct Tally {
    begun: Instant,
    told: u64,
    running: u64,
    pub kills: u64,
    /// Of these, with mosquitto.
    pub kills_mosquitto: u64,
    pub databases: u64,
    pub drains: u64,
    pub longest_drain: Duration,
    pub reconnects: u64,
    pub commits: u64,
    pub maybes: u64,
    /// Committed, and killed before that was said.
    pub untold: u64,
    /// Different ones that arrived.
    pub messages: u64,
    /// Arrivals of what had arrived.
    pub duplicates: u64,
    /// By kind, those that did something.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            begun: Instant::now(),
            told: 0,
            running: 0,
            kills: 0,
            kills_mosquitto: 0,
            databases: 0,
            drains: 0,
            longest_drain: Duration::ZERO,
            reconnects: 0,
            commits: 0,
            maybes: 0,
            untold: 0,
            messages: 0,
            duplicates: 0,
            faults: BTreeMap::new(),
        }
    }
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.kills += other.kills;
        self.kills_mosquitto += other.kills_mosquitto;
        self.databases += other.databases;
        self.drains += other.drains;
        self.longest_drain = self.longest_drain.max(other.longest_drain);
        self.reconnects += other.reconnects;
        self.commits += other.commits;
        self.maybes += other.maybes;
        self.untold += other.untold;
        self.messages += other.messages;
        self.duplicates += other.duplicates;
        for (kind, hits) in &other.faults {
            *self.faults.entry(kind).or_default() += hits;
        }
    }

    /// So many kills more in a lane that goes on.
    pub fn progress(&mut self, kills: u64) {
        self.running += kills;
        if self.running / WORD > self.told {
            self.told = self.running / WORD;
            println!("kills: {} after {:.0} s", self.running, self.begun.elapsed().as_secs_f64());
        }
    }

    /// A fault that hit, if it did.
    pub fn hit(&mut self, kind: Option<&'static str>) {
        if let Some(kind) = kind {
            *self.faults.entry(kind).or_default() += 1;
        }
    }

    pub fn hits(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Faults lag behind the kills.
    pub fn is_calm(&self) -> bool {
        (self.hits() as f64) < self.kills as f64 * FAULTS_PER_KILL
    }

    pub fn is_enough(&self) -> bool {
        !self.is_calm() && self.faults.len() >= KINDS
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.begun.elapsed().as_secs_f64() / 60.0;
        let interruptions = self.kills + self.reconnects;
        write!(
            f,
            "{} kills ({:.0} a minute, {} with mosquitto) on {} databases, {} faults of {} kinds (",
            self.kills,
            self.kills as f64 / minutes,
            self.kills_mosquitto,
            self.databases,
            self.hits(),
            self.faults.len()
        )?;
        for (place, (kind, hits)) in self.faults.iter().enumerate() {
            write!(f, "{}{kind} {hits}", if place == 0 { "" } else { ", " })?;
        }
        write!(
            f,
            "), {} commits told and {} MAYBE, {} not told, {} messages, {} duplicates ({:.1} for each of {} kills and \
             reconnects), {} times drained by the same process, in {:.1} s at most",
            self.commits,
            self.maybes,
            self.untold,
            self.messages,
            self.duplicates,
            self.duplicates as f64 / interruptions.max(1) as f64,
            interruptions,
            self.drains,
            self.longest_drain.as_secs_f64()
        )
    }
}
