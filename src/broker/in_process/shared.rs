//! The one lock, those who wait behind it, and the thread that keeps time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Counts;
use super::state::State;

/// What all handles, subscribers and arrivals share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told when a number in [`Counts`] has moved.
    moved: Condvar,
    /// Told when the timer has something new to look at.
    alarm: Condvar,
}

impl Shared {
    pub fn new(state: State) -> Self {
        Shared { state: Mutex::new(state), moved: Condvar::new(), alarm: Condvar::new() }
    }

    /// Poisoned or not: nothing in here leaves the state half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock())
    }

    /// Changes the state, and tells those whom the change concerns.
    pub fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let (counts, due) = (state.counts, state.next_due());
        let answer = change(&mut state);
        if state.counts != counts {
            self.moved.notify_all();
        }
        if state.next_due() != due && state.next_due().is_some() {
            self.wake_timer(&mut state);
        } else if !state.in_use() {
            self.alarm.notify_all();
        }
        answer
    }

    fn wake_timer(self: &Arc<Self>, state: &mut State) {
        if !state.timer {
            let shared = Arc::clone(self);
            let timer = thread::Builder::new().name("outbox-inproc".to_owned());
            state.timer = timer.spawn(move || shared.keep_time()).is_ok();
        }
        if state.timer {
            self.alarm.notify_all();
        } else {
            // No thread to be had: early is within the contract, never is not.
            state.ring(None);
            self.moved.notify_all();
        }
    }

    fn keep_time(&self) {
        let mut state = self.lock();
        while state.in_use() {
            let now = Instant::now();
            let counts = state.counts;
            state.ring(Some(now));
            if state.counts != counts {
                self.moved.notify_all();
            }
            state = match state.next_due() {
                Some(due) => wait(&self.alarm, state, Some(due.saturating_duration_since(now))),
                None => wait(&self.alarm, state, None),
            };
        }
    }

    /// Waits on `ready` until `take` finds something, nobody is left to send, or `until` is past.
    pub fn wait_for<T>(
        &self,
        ready: &Condvar,
        until: Option<Instant>,
        mut take: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(found) = take(&mut state) {
                return Some(found);
            }
            if !state.in_use() {
                return None;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            state = wait(ready, state, left);
        }
    }

    /// Waits until the counts are no longer `known`; `None` if they are the same at `until`.
    pub fn wait_for_move(&self, known: Counts, until: Option<Instant>) -> Option<Counts> {
        self.wait_for(&self.moved, until, |state| Some(state.counts).filter(|counts| *counts != known))
    }
}

fn wait<'a>(on: &Condvar, state: MutexGuard<'a, State>, left: Option<Duration>) -> MutexGuard<'a, State> {
    match left {
        Some(left) => on.wait_timeout(state, left).map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state),
        None => on.wait(state).unwrap_or_else(PoisonError::into_inner),
    }
}
