//! What the forwarder's thread lets others see.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Mailbox;
use super::dispatcher::Dispatcher;
use crate::status::{ClosedTopic, LinkState, Role, Status, Storage};

pub(crate) struct Shared {
    pub mailbox: Arc<Mailbox>,
    view: Mutex<View>,
    /// See [`settled`](Self::settled).
    settled: AtomicI64,
    panicked: OnceLock<String>,
}

/// As of the last time that the thread had nothing to do, or something changed.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub role: Role,
    pub link: LinkState,
    pub closed_topics: Vec<ClosedTopic>,
    pub storage: Storage,
    pub progress: Option<Progress>,
    pub sent: u64,
    pub damaged: u64,
    /// Rows that were passed over, as an active forwarder knows it.
    pub unreadable: Option<u64>,
    pub reconnects: u64,
}

/// How far an active forwarder has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// New rows were read up to here.
    pub cursor: i64,
    /// Every row up to here is settled, waiting or held.
    pub position: i64,
    /// New rows in memory, not settled.
    pub taken: usize,
    pub in_flight: usize,
    /// Rows that wait or are held and do not stand so in the table yet, less those that still do and are settled.
    pub unwritten: i64,
}

impl Progress {
    pub fn of(dispatcher: &Dispatcher) -> Self {
        Progress {
            cursor: dispatcher.cursor(),
            position: dispatcher.position(),
            taken: dispatcher.taken(),
            in_flight: dispatcher.in_flight(),
            unwritten: dispatcher.unwritten(),
        }
    }
}

impl View {
    /// Says which topics were closed since the last time, and which are open again: their messages wait, and nothing
    /// else would show in a log.
    pub fn set_closed_topics(&mut self, now: Vec<ClosedTopic>) {
        let is_in = |topics: &[ClosedTopic], topic: &str| topics.iter().any(|closed| closed.topic == topic);
        let before = &self.closed_topics;
        for ClosedTopic { topic, reason, .. } in now.iter().filter(|closed| !is_in(before, &closed.topic)) {
            log::warn!("the broker closed topic {topic:?} to us: {reason}; its messages wait, and it is tried again");
        }
        for ClosedTopic { topic, .. } in before.iter().filter(|closed| !is_in(&now, &closed.topic)) {
            log::info!("topic {topic:?} is open again");
        }
        self.closed_topics = now;
    }
}

impl Shared {
    pub fn new(mailbox: Arc<Mailbox>, role: Role) -> Self {
        let view = View {
            role,
            link: LinkState::Connecting,
            closed_topics: Vec::new(),
            storage: Storage::Ok,
            progress: None,
            sent: 0,
            damaged: 0,
            unreadable: None,
            reconnects: 0,
        };
        Shared { mailbox, view: Mutex::new(view), settled: AtomicI64::new(0), panicked: OnceLock::new() }
    }

    /// Every row up to here is settled, waiting or held in the table, and was never otherwise since: what the stored
    /// position says, sooner. 0 where it is not known.
    pub fn settled(&self) -> i64 {
        self.settled.load(Ordering::Relaxed)
    }

    pub fn set_settled(&self, upto: i64) {
        self.settled.store(upto, Ordering::Relaxed);
    }

    pub fn update(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn status(&self) -> Status {
        let View { role, link, closed_topics, storage, .. } = self.view();
        Status { role, link, closed_topics, storage, failed: self.panicked.get().cloned() }
    }

    pub fn panicked(&self) -> Option<&str> {
        self.panicked.get().map(String::as_str)
    }

    pub fn set_panicked(&self, said: String) {
        let _ = self.panicked.set(said);
    }
}
