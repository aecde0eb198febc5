//! How the broker was told to misbehave.

use std::time::Duration;

use crate::broker::{Cause, Down, Refusal, Verdict};
use crate::topic_filter::TopicFilter;

/// What stands against sessions, messages and acknowledgements. Nothing, as it is made.
#[derive(Default)]
pub(super) struct Faults {
    pub offline: bool,
    pub refuse_sessions: Option<String>,
    /// Answers that are still to be kept back.
    pub lose: usize,
    pub delay: Duration,
    closed: Vec<(TopicFilter, String)>,
    refusals: Vec<Refusals>,
    hang_ups: Vec<(TopicFilter, usize)>,
}

struct Refusals {
    filter: TopicFilter,
    refusal: Refusal,
    left: usize,
}

/// What happens to a message that arrives.
pub(super) enum Meeting {
    Welcome,
    Refused(Refusal),
    /// The session is to end, once this many younger messages were acknowledged.
    HangUp(usize),
}

impl Faults {
    /// Why no session can be had, if none can.
    pub fn against_sessions(&self) -> Option<Down> {
        if self.offline {
            return Some(Down::Unreachable(Cause::from("the in-process broker was told to be offline")));
        }
        self.refuse_sessions.as_ref().map(|reason| Down::Refused(Cause::from(reason.clone())))
    }

    pub fn meet(&mut self, topic: &str) -> Meeting {
        if let Some((_, reason)) = self.closed.iter().find(|(filter, _)| filter.matches(topic)) {
            return Meeting::Refused(Refusal::new(Verdict::Topic, reason.clone()));
        }
        if let Some(rule) = self.refusals.iter_mut().find(|rule| rule.left > 0 && rule.filter.matches(topic)) {
            rule.left -= 1;
            return Meeting::Refused(rule.refusal.clone());
        }
        match self.hang_ups.iter().find(|(filter, _)| filter.matches(topic)) {
            Some((_, younger)) => Meeting::HangUp(*younger),
            None => Meeting::Welcome,
        }
    }

    /// A second rule for the same filter replaces the first, here and below: so the rules stay as few as the filters.
    pub fn close(&mut self, filter: TopicFilter, reason: String) {
        self.open(&filter);
        self.closed.push((filter, reason));
    }

    pub fn open(&mut self, filter: &TopicFilter) {
        self.closed.retain(|(closed, _)| closed != filter);
    }

    pub fn refuse(&mut self, filter: TopicFilter, refusal: Refusal, times: usize) {
        self.refusals.retain(|rule| rule.filter != filter && rule.left > 0);
        self.refusals.push(Refusals { filter, refusal, left: times });
    }

    pub fn hang_up(&mut self, filter: TopicFilter, younger: usize) {
        self.hang_ups.retain(|(other, _)| *other != filter);
        self.hang_ups.push((filter, younger));
    }
}
