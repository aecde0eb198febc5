//! Rows that were read ahead, and the deliveries that are made of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::dispatcher::Dispatcher;
use super::{Mailbox, Outcome, Ticket, expiry};
use crate::Error;
use crate::broker::{Broker, Delivery, Receipt, Refusal, Verdict};
use crate::store::{Content, Query, Store, now_ms};

pub(super) struct Deliveries {
    /// Messages of rows that were read ahead.
    contents: BTreeMap<i64, Content>,
    /// Not yet taken by the adapter.
    queue: VecDeque<Delivery>,
    /// Reading failed this often in a row.
    read_failures: u32,
    /// Bytes of a payload beyond which it is not sent.
    max_payload: usize,
    mailbox: Arc<Mailbox>,
}

impl Deliveries {
    pub fn new(max_payload: usize, mailbox: Arc<Mailbox>) -> Self {
        Deliveries { contents: BTreeMap::new(), queue: VecDeque::new(), read_failures: 0, max_payload, mailbox }
    }

    /// Reads what the dispatcher asks for, and reports it.
    ///
    /// # Errors
    /// What SQLite answers: it is asked again after a [`rest`](Self::rest).
    pub fn read(&mut self, store: &mut Store, dispatcher: &mut Dispatcher, query: &Query) -> Result<(), Error> {
        let done = match query {
            Query::Fresh { after, rows, bytes, lanes } => {
                self.read_fresh(store, dispatcher, query, (*after, *rows, *bytes, *lanes))
            }
            Query::Again { after, rows } => store.again(*after, *rows).map(|rows| dispatcher.found(query, rows, 0)),
            Query::Lane { lane, after, rows } => {
                store.lane(lane, *after, *rows).map(|rows| dispatcher.found(query, rows, 0))
            }
            Query::Lanes { after, rows } => {
                store.lanes(after.as_ref(), *rows).map(|lanes| dispatcher.lanes_found(query, lanes))
            }
        };
        self.read_failures = if done.is_ok() { 0 } else { self.read_failures.saturating_add(1) };
        done
    }

    fn read_fresh(
        &mut self,
        store: &mut Store,
        dispatcher: &mut Dispatcher,
        query: &Query,
        (after, rows, bytes, lanes): (i64, usize, usize, bool),
    ) -> Result<(), Error> {
        let newest = store.newest()?;
        let found = store.fresh(after, rows, bytes, lanes, self.max_payload)?;
        let mut rows = Vec::with_capacity(found.len());
        for (row, content) in found {
            self.contents.insert(row.id, content);
            rows.push(row);
        }
        dispatcher.found(query, rows, newest);
        // Rows that were passed over without being sent leave their messages behind.
        self.contents = self.contents.split_off(&dispatcher.first_fresh());
        Ok(())
    }

    /// How long to wait after a reading that failed; it doubles with each, up to 64 times.
    pub fn rest(&self) -> Duration {
        Duration::from_millis(50 << self.read_failures.min(6))
    }

    /// Makes a delivery of the row, or settles it where there is nothing to deliver.
    ///
    /// # Errors
    /// What SQLite answers; to the dispatcher the row was not delivered.
    pub fn prepare(
        &mut self,
        store: &mut Store,
        dispatcher: &mut Dispatcher,
        ticket: Ticket,
        possible_duplicate: bool,
    ) -> Result<(), Error> {
        let content = match self.contents.remove(&ticket.row) {
            Some(content) => Ok(Some(content)),
            None => store.content(ticket.row, self.max_payload),
        };
        match content {
            Ok(Some(Content::Message { id, mut message, created_at })) => {
                // Now and not when it was read, which may have been long before.
                if let Some(expiry) = &mut message.expiry {
                    match expiry::left(*expiry, created_at, now_ms()) {
                        Ok(left) => *expiry = left,
                        Err(reason) => {
                            let before = if possible_duplicate { "; it may have been delivered before" } else { "" };
                            dispatcher.settled(ticket, withheld(format!("{reason}{before}")));
                            return Ok(());
                        }
                    }
                }
                let receipt = Receipt::new(ticket, self.mailbox.clone());
                self.queue.push_back(Delivery::new(id, possible_duplicate, *message, receipt));
            }
            Ok(Some(Content::Spoiled(reason))) => dispatcher.settled(ticket, withheld(reason)),
            Ok(None) => dispatcher.vanished(ticket),
            Err(error) => {
                dispatcher.settled(ticket, Outcome::NotDelivered);
                return Err(error);
            }
        }
        Ok(())
    }

    pub fn hand_over(&mut self, broker: &mut dyn Broker) {
        if !self.queue.is_empty() {
            broker.send(&mut self.queue);
        }
    }

    /// Whether the adapter did not take everything.
    pub fn are_left_over(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What the adapter did not take belongs to a session that is over: it is read again for the next.
    pub fn drop_left_over(&mut self) {
        self.queue.clear();
    }
}

/// To be parked, without asking the broker.
fn withheld(reason: String) -> Outcome {
    Outcome::Withheld(Refusal::new(Verdict::Never, reason))
}
