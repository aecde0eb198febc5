//! What is in flight: the window, anchored at the oldest delivery that is not settled.

use std::collections::VecDeque;
use std::time::Duration;

use super::rules::SLOWEST_LINK;
use crate::forwarder::Ticket;
use crate::store::Row;

/// A row and what the dispatcher knows of it beyond the table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Item {
    pub row: Row,
    /// Read from the stream of new rows, and by nothing in the table marked as an exception: the position cannot pass.
    pub fresh: bool,
    /// Sent before, or it may have been, in an earlier life of the forwarder.
    pub sent_before: bool,
    /// Refused as one of a group: it goes by itself.
    pub alone: bool,
}

impl Item {
    pub fn new(row: Row, fresh: bool) -> Self {
        Item { row, fresh, sent_before: false, alone: false }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Slot {
    id: i64,
    /// Taken out when it is settled; the slot stays until it is the oldest.
    item: Option<Item>,
    sent: Duration,
    deadline: Duration,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Flight {
    /// In the order of sending. Sendings are numbered without gaps, so a ticket finds its slot by its number.
    slots: VecDeque<Slot>,
    /// The number of the front slot.
    first: u64,
    open: usize,
    bytes: usize,
}

impl Flight {
    /// Unsettled deliveries.
    pub fn open(&self) -> usize {
        self.open
    }

    pub fn has_room(&self, window: usize) -> bool {
        self.slots.len() < window
    }

    /// Whether `size` more bytes may go; a message over the limit goes alone.
    pub fn fits(&self, size: usize, bytes: usize) -> bool {
        self.open == 0 || self.bytes.saturating_add(size) <= bytes
    }

    /// Whether the one in flight wants no company.
    pub fn is_alone(&self) -> bool {
        self.open == 1 && self.items().any(|item| item.alone)
    }

    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.slots.iter().filter_map(|slot| slot.item.as_ref())
    }

    pub fn contains(&self, id: i64) -> bool {
        self.items().any(|item| item.row.id == id)
    }

    /// Sends: the ticket that its settlement will show.
    pub fn push(&mut self, now: Duration, item: Item, ack_timeout: Duration) -> Ticket {
        let ticket = Ticket { row: item.row.id, sending: self.first + self.slots.len() as u64 };
        self.open += 1;
        self.bytes += item.row.size;
        // What is ahead of it on the line must get through first: the bytes in flight at its sending, its own included.
        let transfer = Duration::from_millis((self.bytes as u64).saturating_mul(1_000) / SLOWEST_LINK);
        let deadline = now.saturating_add(ack_timeout).saturating_add(transfer);
        self.slots.push_back(Slot { id: item.row.id, item: Some(item), sent: now, deadline });
        ticket
    }

    fn slot(&self, ticket: Ticket) -> Option<usize> {
        let index = usize::try_from(ticket.sending.checked_sub(self.first)?).ok()?;
        self.slots.get(index).is_some_and(|slot| slot.id == ticket.row).then_some(index)
    }

    /// When what the ticket names was sent.
    pub fn sent(&self, ticket: Ticket) -> Option<Duration> {
        self.slot(ticket).map(|index| self.slots[index].sent)
    }

    /// Takes out what the ticket names, if that very sending is still unsettled.
    pub fn settle(&mut self, ticket: Ticket) -> Option<Item> {
        let index = self.slot(ticket)?;
        let item = self.slots[index].item.take()?;
        self.forget(&item);
        Some(item)
    }

    /// Takes out the row, whichever sending of it is in flight.
    pub fn remove(&mut self, id: i64) -> Option<Item> {
        let slot = self.slots.iter_mut().find(|slot| slot.id == id && slot.item.is_some())?;
        let item = slot.item.take()?;
        self.forget(&item);
        Some(item)
    }

    fn forget(&mut self, item: &Item) {
        self.open -= 1;
        self.bytes -= item.row.size;
        while self.slots.front().is_some_and(|slot| slot.item.is_none()) {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// The oldest unsettled delivery: the number of its sending, its row, and when it was sent.
    pub fn oldest(&self) -> Option<(u64, i64, Duration)> {
        self.slots.front().map(|slot| (self.first, slot.id, slot.sent))
    }

    /// When the session is given up for want of an answer.
    pub fn deadline(&self) -> Option<Duration> {
        self.slots.front().map(|slot| slot.deadline)
    }

    /// The session is over: everything unsettled, in the order of sending.
    pub fn end(&mut self) -> impl Iterator<Item = Item> + use<> {
        self.first += self.slots.len() as u64;
        self.open = 0;
        self.bytes = 0;
        std::mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.item)
    }
}
