//! Liveness: from wherever the world has come to, if nothing more goes wrong, everything is settled.
//!
//! The checker's own `eventually` overlooks courses that come back to where they were, and ones that join. So every state
//! that is reached is followed along its calm course, one prompt answer after the other: it must come to where all rows
//! are settled and the dispatcher waits. Courses join, so each is followed only up to a state that is known to lead there.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};
use std::sync::Mutex;

use super::configuration::Configuration;
use super::events::Event;
use super::world::World;

/// Far more than any course of a few rows takes.
const MOST: usize = 1_000;

/// Fingerprints of states from which everything is settled.
#[derive(Default)]
pub(super) struct Settling(Mutex<HashSet<u64, BuildHasherDefault<Plain>>>);

/// A fingerprint is a hash already.
#[derive(Default)]
struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
    world.hash_future(&mut hasher);
    hasher.finish()
}

impl Settling {
    /// What is wrong with the calm course from here, if anything; with the events so far.
    pub fn leads_there(&self, world: &World, configuration: &Configuration) -> Result<(), (String, Vec<Event>)> {
        let mut known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (mut course, mut events) = (Vec::new(), Vec::new());
        let mut here = None;
        loop {
            let now: &World = here.as_ref().unwrap_or(world);
            let mark = fingerprint(now);
            if known.contains(&mark) {
                break;
            }
            if now.broken.is_some() {
                return Ok(()); // which is told by itself
            }
            if course.contains(&mark) {
                return Err(("it goes in a circle".to_owned(), events));
            }
            if course.len() > MOST {
                return Err((format!("it is not settled after {MOST} events"), events));
            }
            course.push(mark);
            let event = now.calm_event();
            let next = now.after(event, configuration);
            if now.is_settled() && event == Event::Step && next.as_ref().is_none_or(|next| next.now > now.now) {
                break;
            }
            let Some(next) = next else { return Err(("it waits for ever".to_owned(), events)) };
            events.push(event);
            here = Some(next);
        }
        known.extend(course);
        Ok(())
    }
}
