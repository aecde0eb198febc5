//! Whose turn it is to write, within this process.
//!
//! SQLite has one writer at a time, and lets the others sleep and try again. A gate in front of it wakes the next one at
//! once: measured, 1.9 times the rate, and 16 instead of 104 ms for the longest wait. The forwarder has the right of
//! way: it writes rarely, and while it cannot, nothing is sent.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// Told when the turn is free.
    free: Condvar,
}

#[derive(Default)]
struct State {
    /// Who has the turn, so that nesting is seen before it waits for itself.
    owner: Option<ThreadId>,
    /// Whether the forwarder waits: then nobody else takes it.
    right_of_way: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Application,
    Forwarder,
}

/// Why there is no turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// This thread has it already.
    Nested,
    /// Others kept it for the whole time.
    TimedOut,
}

/// The right to write, until it is dropped.
pub(crate) struct Turn<'gate>(&'gate Gate);

impl Gate {
    pub fn wait(&self, who: Who, timeout: Duration) -> Result<Turn<'_>, NoTurn> {
        let me = thread::current().id();
        let until = Instant::now().checked_add(timeout);
        let mut state = self.lock();
        if state.owner == Some(me) {
            return Err(NoTurn::Nested);
        }
        let first = who == Who::Forwarder;
        while state.owner.is_some() || (state.right_of_way && !first) {
            let left = until.map_or(timeout, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                state.right_of_way &= !first;
                return Err(NoTurn::TimedOut);
            }
            state.right_of_way |= first;
            state = self.free.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.right_of_way &= !first;
        state.owner = Some(me);
        Ok(Turn(self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.owner = None;
        if state.right_of_way {
            // The one that has it is among those who wait, and only it may go on.
            self.0.free.notify_all();
        } else {
            self.0.free.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_thread_that_has_the_turn_is_told_so_and_others_wait() {
        let gate = Gate::default();
        let turn = gate.wait(Who::Application, Duration::ZERO);
        assert!(turn.is_ok());
        assert_eq!(gate.wait(Who::Application, LONG).err(), Some(NoTurn::Nested));
        thread::scope(|scope| {
            let other = scope.spawn(|| gate.wait(Who::Application, Duration::from_millis(1)).err());
            assert_eq!(other.join().expect("no panic"), Some(NoTurn::TimedOut));
        });
        drop(turn);
        assert!(gate.wait(Who::Application, Duration::ZERO).is_ok());
    }

    #[test]
    fn the_forwarder_goes_before_a_writer_that_asks_again_at_once() {
        let gate = Gate::default();
        for _ in 0..1_000 {
            let turn = gate.wait(Who::Application, LONG);
            thread::scope(|scope| {
                let forwarder = scope.spawn(|| gate.wait(Who::Forwarder, LONG).map(drop));
                while !gate.lock().right_of_way {
                    thread::yield_now();
                }
                drop(turn);
                // Nobody else passes before the forwarder has had its turn.
                let again = gate.wait(Who::Application, LONG);
                assert!(again.is_ok() && !gate.lock().right_of_way);
                drop(again);
                assert_eq!(forwarder.join().expect("no panic"), Ok(()));
            });
        }
    }
}
