//! What the forwarder's thread lets others see.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::Mailbox;
use super::dispatcher::Dispatcher;
use crate::inspector::Live;
use crate::live;
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
    /// What the log has to be told of it.
    #[must_use]
    pub fn set_closed_topics(&mut self, now: Vec<ClosedTopic>) -> TopicNews {
        let those_not_in = |topics: &[ClosedTopic], others: &[ClosedTopic]| {
            let is_new = |closed: &&ClosedTopic| others.iter().all(|other| other.topic != closed.topic);
            topics.iter().filter(is_new).cloned().collect()
        };
        let closed = those_not_in(&now, &self.closed_topics);
        let opened = those_not_in(&self.closed_topics, &now);
        self.closed_topics = now;
        TopicNews { closed, opened }
    }
}

/// Topics that were closed since the last time, and those that are open again.
pub(crate) struct TopicNews {
    closed: Vec<ClosedTopic>,
    opened: Vec<ClosedTopic>,
}

impl TopicNews {
    /// Their messages wait, and nothing else would show in a log. Not while the view is locked: a log may stand on a disk
    /// that does not answer, and those who ask would wait with it.
    pub fn log(self) {
        for ClosedTopic { topic, reason, .. } in self.closed {
            log::warn!("the broker closed topic {topic:?} to us: {reason}; its messages wait, and it is tried again");
        }
        for ClosedTopic { topic, .. } in self.opened {
            log::info!("topic {topic:?} is open again");
        }
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

    pub fn update<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is to be told to other processes. `since`: from when this forwarder has been the active one.
    pub fn live(&self, since: Instant) -> Live {
        let failed = self.panicked.get().cloned();
        self.update(|view| Live {
            process: std::process::id(),
            active_for: since.elapsed(),
            status: Status {
                role: view.role,
                link: view.link.clone(),
                closed_topics: live::first_of(&view.closed_topics),
                storage: view.storage.clone(),
                failed,
            },
            closed_topics: view.closed_topics.len() as u64,
            sent: view.sent,
            damaged: view.damaged,
            in_flight: view.progress.map_or(0, |progress| progress.in_flight as u64),
            reconnects: view.reconnects,
        })
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
