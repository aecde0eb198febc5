//! Holds what arrived against what stands in the table.

use std::collections::{HashMap, HashSet};

use indicatif::HumanCount;

use crate::route::Arrived;
use crate::sensor::Reading;

/// The last level of the topic of the last message: whoever has received it has received everything.
const END: &str = "end";

/// What arrived so far.
#[derive(Default)]
pub struct Audit {
    run: String,
    ids: HashSet<String>,
    /// First deliveries, in the order of their arrival.
    readings: Vec<Reading>,
    repeated: u64,
    /// Repetitions that did not say so.
    unmarked: u64,
    /// Messages below our topic that no sensor of ours writes.
    strange: u64,
    ended: bool,
}

/// One question of the audit, with its answer.
pub struct Finding {
    pub good: bool,
    pub question: &'static str,
    pub figures: String,
}

impl Audit {
    pub fn new(run: &str) -> Self {
        Audit { run: run.to_owned(), ..Audit::default() }
    }

    /// The topic of the last message.
    pub fn end_topic(&self) -> String {
        format!("weather/{}/{END}", self.run)
    }

    pub fn arrived(&mut self, message: Arrived) {
        if !message.topic.starts_with(&format!("weather/{}/", self.run)) {
            return; // left in the database by an earlier run
        }
        if !self.ids.insert(message.id) {
            self.repeated += 1;
            self.unmarked += u64::from(!message.maybe_repeated);
        } else if message.topic == self.end_topic() {
            self.ended = true;
        } else {
            match serde_json::from_slice(&message.payload) {
                Ok(reading) => self.readings.push(reading),
                Err(_) => self.strange += 1,
            }
        }
    }

    pub fn ended(&self) -> bool {
        self.ended
    }

    pub fn delivered(&self) -> u64 {
        self.readings.len() as u64
    }

    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Everything that was promised, looked at one by one.
    pub fn findings(&self, committed: &[Reading], rolled_back: u64) -> Vec<Finding> {
        let count = |n: u64| HumanCount(n).to_string();
        let written: HashMap<_, _> = committed.iter().map(|reading| (name(reading), reading)).collect();
        let arrived: HashSet<_> = self.readings.iter().map(name).collect();
        let there = written.keys().filter(|name| arrived.contains(*name)).count() as u64;
        let ghosts = arrived.iter().filter(|name| !written.contains_key(*name)).count() as u64 + self.strange;
        let altered = self.readings.iter().filter(|r| written.get(&name(r)).is_some_and(|w| w != r)).count() as u64;
        let overtaken = self.overtaken();
        let finding = |good, question, figures| Finding { good, question, figures };
        vec![
            finding(
                there == committed.len() as u64,
                "every committed reading arrived",
                format!("{} of {}", count(there), count(committed.len() as u64)),
            ),
            finding(
                ghosts == 0,
                "no reading arrived that was rolled back",
                format!("{} of {}", count(ghosts), count(rolled_back)),
            ),
            finding(altered == 0, "they arrived as they were written", format!("{} altered", count(altered))),
            finding(
                overtaken == 0,
                "each sensor's readings arrived in order",
                format!("{} overtaken", count(overtaken)),
            ),
            finding(
                self.unmarked == 0,
                "repetitions said that they may be some",
                format!("{} of {}", count(self.repeated - self.unmarked), count(self.repeated)),
            ),
        ]
    }

    /// First deliveries that came behind a younger one of their sensor.
    fn overtaken(&self) -> u64 {
        let mut latest: HashMap<&str, u64> = HashMap::new();
        let mut overtaken = 0;
        for reading in &self.readings {
            let latest = latest.entry(&reading.sensor).or_default();
            overtaken += u64::from(reading.number <= *latest);
            *latest = reading.number.max(*latest);
        }
        overtaken
    }
}

fn name(reading: &Reading) -> (&str, u64) {
    (&reading.sensor, reading.number)
}
