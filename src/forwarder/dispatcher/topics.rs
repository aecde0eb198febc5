//! Topics that the broker closed to us, and when each is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Closed {
    pub reason: String,
    /// When one message of it may be tried.
    pub until: Duration,
    /// Whether that time has come: the next message goes as the probe.
    pub half_open: bool,
    /// The probe, once it is in flight.
    pub probe: Option<i64>,
}

/// How a topic stands for a message that would be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    Open,
    /// One may go through, by itself, to see.
    Ajar,
    Shut,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Topics {
    closed: BTreeMap<Arc<str>, Closed>,
    /// Whether anything at all was sent since the session came up.
    heard_yes: bool,
    /// When a topic was first closed since then.
    first_no: Option<Duration>,
}

/// Closed topics that are kept in mind. One more, and the one that waits longest is forgotten: its next message finds out.
const MOST: usize = 1_024;

impl Topics {
    pub fn is_empty(&self) -> bool {
        self.closed.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Closed)> {
        self.closed.iter()
    }

    pub fn door(&self, topic: &str) -> Door {
        match self.closed.get(topic) {
            None => Door::Open,
            Some(closed) if closed.half_open && closed.probe.is_none() => Door::Ajar,
            Some(_) => Door::Shut,
        }
    }

    /// Shuts the topic until then; the one that had to be forgotten for it, if any.
    pub fn close(&mut self, now: Duration, topic: &Arc<str>, reason: String, until: Duration) -> Option<Arc<str>> {
        self.first_no.get_or_insert(now);
        self.closed.insert(topic.clone(), Closed { reason, until, half_open: false, probe: None });
        if self.closed.len() <= MOST {
            return None;
        }
        let latest =
            self.closed.iter().filter(|(t, _)| *t != topic).max_by_key(|(_, c)| c.until).map(|(t, _)| t.clone())?;
        self.closed.remove(&latest);
        Some(latest)
    }

    /// Whether it was closed.
    pub fn open(&mut self, topic: &str) -> bool {
        self.closed.remove(topic).is_some()
    }

    pub fn probe_sent(&mut self, topic: &str, id: i64) {
        if let Some(closed) = self.closed.get_mut(topic) {
            closed.probe = Some(id);
        }
    }

    /// The probe came back without an answer about the topic: the next message may try.
    pub fn probe_over(&mut self, topic: &str, id: i64) {
        if let Some(closed) = self.closed.get_mut(topic).filter(|closed| closed.probe == Some(id)) {
            closed.probe = None;
        }
    }

    pub fn next_due(&self) -> Option<Duration> {
        self.closed.values().map(|closed| closed.until).min()
    }

    /// The time of every topic has come.
    pub fn all_due(&mut self, now: Duration) {
        for closed in self.closed.values_mut() {
            closed.until = closed.until.min(now);
        }
    }

    /// A topic whose time has come; it is half open from now on, and comes again after `wait` if nothing decides it.
    pub fn take_due(&mut self, now: Duration, wait: Duration) -> Option<Arc<str>> {
        let (topic, closed) = self.closed.iter_mut().find(|(_, closed)| closed.until <= now)?;
        closed.half_open = true;
        closed.until = now + wait;
        Some(topic.clone())
    }

    pub fn session_up(&mut self) {
        (self.heard_yes, self.first_no) = (false, None);
    }

    pub fn sent(&mut self) {
        self.heard_yes = true;
    }

    /// Since when the broker, which let us in, has taken nothing at all of what was tried on this session.
    pub fn all_shut(&self) -> Option<Duration> {
        self.first_no.filter(|_| !self.heard_yes && !self.closed.is_empty())
    }
}
