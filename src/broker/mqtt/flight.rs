//! The receipts of one session, by packet id.
//!
//! rumqttc does not tell which packet id a message got, but it gives them in a fixed order: on a fresh event loop 1, 2,
//! … window, 1, … for everything above QoS 0. So the id is predicted when a message is handed over and confirmed when
//! rumqttc says that it was sent. A message is handed over only while the id that it will get is free: then nothing can
//! collide, and an id that awaits PUBCOMP is never given to a second message, which rumqttc by itself would do.

use std::collections::VecDeque;

use crate::QoS;
use crate::broker::Receipt;

/// What is with rumqttc or on the wire, and how far it got.
pub(super) struct Flight {
    /// By packet id, which counts from 1.
    slots: Vec<Option<Slot>>,
    /// The slot of the packet id that is given next.
    next: usize,
    /// Slots in use.
    used: usize,
    /// Places in rumqttc's own count of what is in flight that it never gives back: see [`leak`](Self::leak).
    leaked: usize,
    /// What rumqttc has yet to confirm as sent, in its order.
    handed: VecDeque<Handed>,
}

struct Slot {
    receipt: Receipt,
    qos: QoS,
    stage: Stage,
}

/// How far a message above QoS 0 got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// With rumqttc.
    Handed,
    /// PUBLISH was sent.
    Sent,
    /// PUBREC came, without a refusal; only with QoS 2.
    Received,
}

enum Handed {
    Numbered(usize),
    QoS0(Receipt),
}

/// Something came that fits nothing in flight. The broker, or rumqttc, is out of step: nothing of this session can be
/// believed any more.
#[derive(Debug)]
pub(super) struct OutOfStep;

impl Flight {
    /// `window` is 1 or more: the smaller of what rumqttc was told and what the broker allows.
    pub fn new(window: u16) -> Self {
        let slots = (0..window).map(|_| None).collect();
        Flight { slots, next: 0, used: 0, leaked: 0, handed: VecDeque::new() }
    }

    /// Whether a message of this QoS can be handed over now.
    ///
    /// A leaked place counts as one in use, so that rumqttc's count never stands at its limit with something still to
    /// read in front of it. Once a quarter of the window has leaked nothing is handed over until the flight is idle.
    pub fn has_room(&self, qos: QoS) -> bool {
        let window = self.slots.len();
        let numbered = qos == QoS::AtMostOnce || self.slots[self.next].is_none();
        numbered && self.handed.len() < window && self.used + self.leaked < window && self.leaked * 4 <= window
    }

    /// Keeps the receipt of a message that was just handed over; there [was room](Self::has_room).
    pub fn hand_over(&mut self, receipt: Receipt, qos: QoS) {
        if qos == QoS::AtMostOnce {
            return self.handed.push_back(Handed::QoS0(receipt));
        }
        self.slots[self.next] = Some(Slot { receipt, qos, stage: Stage::Handed });
        self.handed.push_back(Handed::Numbered(self.next));
        self.used += 1;
        self.next = (self.next + 1) % self.slots.len();
    }

    /// rumqttc sent a PUBLISH with this packet id, 0 for QoS 0: answers with the receipt in that case.
    pub fn sent(&mut self, id: u16) -> Result<Option<Receipt>, OutOfStep> {
        match self.handed.pop_front() {
            Some(Handed::QoS0(receipt)) if id == 0 => Ok(Some(receipt)),
            Some(Handed::Numbered(slot)) if slot + 1 == usize::from(id) => {
                let slot = self.slots[slot].as_mut().ok_or(OutOfStep)?;
                slot.stage = Stage::Sent;
                Ok(None)
            }
            _ => Err(OutOfStep),
        }
    }

    /// PUBREC without a refusal came for this packet id.
    pub fn received(&mut self, id: u16) -> Result<(), OutOfStep> {
        let slot = self.slot(id).and_then(Option::as_mut).ok_or(OutOfStep)?;
        if slot.qos != QoS::ExactlyOnce || slot.stage != Stage::Sent {
            return Err(OutOfStep);
        }
        slot.stage = Stage::Received;
        Ok(())
    }

    /// The last word about this packet id has come: frees it, and gives out the receipt if the message is of that QoS
    /// and got that far.
    pub fn finish(&mut self, id: u16, qos: QoS, stage: Stage) -> Result<Receipt, OutOfStep> {
        let slot = self.slot(id).ok_or(OutOfStep)?;
        let slot = slot.take_if(|slot| slot.qos == qos && slot.stage == stage).ok_or(OutOfStep)?;
        self.used -= 1;
        Ok(slot.receipt)
    }

    /// rumqttc counted one in flight that it will not count down: it does so upon a PUBREC or a PUBCOMP with an error.
    pub fn leak(&mut self) {
        self.leaked += 1;
    }

    /// Whether rumqttc's count is off and may be set to nothing, because nothing is in flight.
    pub fn is_mendable(&self) -> bool {
        self.leaked > 0 && self.is_idle()
    }

    /// rumqttc's count was set right.
    pub fn mended(&mut self) {
        self.leaked = 0;
    }

    pub fn is_idle(&self) -> bool {
        self.used == 0 && self.handed.is_empty()
    }

    /// The receipt of what is on the wire, if it is just one message.
    pub fn take_only(&mut self) -> Option<Receipt> {
        let mut on_wire = self.slots.iter_mut().filter(|slot| slot.as_ref().is_some_and(|s| s.stage != Stage::Handed));
        let only = on_wire.next()?;
        if on_wire.next().is_some() {
            return None;
        }
        self.used -= 1;
        only.take().map(|slot| slot.receipt)
    }

    fn slot(&mut self, id: u16) -> Option<&mut Option<Slot>> {
        self.slots.get_mut(usize::from(id).checked_sub(1)?)
    }
}
