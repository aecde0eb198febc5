//! The receipts of one session, by packet id.

use std::collections::VecDeque;

use super::decode::Step;
use super::settings::Protocol;
use crate::QoS;
use crate::broker::Receipt;

/// What is on the wire, and how far it got.
///
/// A packet id is free again with the last word about its message, and is then given out last: an answer that comes
/// twice finds nothing that it could settle for a while.
pub(super) struct Flight {
    /// By packet id, which counts from 1.
    slots: Vec<Option<Slot>>,
    free: VecDeque<u16>,
    /// QoS 0: sent once the kernel has the bytes up to there.
    unanswered: VecDeque<(u64, Receipt)>,
    protocol: Protocol,
    /// Up to where the broker has read for certain, by its answers.
    answered: u64,
}

struct Slot {
    receipt: Receipt,
    qos: QoS,
    /// PUBREC came, without a refusal; only with QoS 2.
    received: bool,
    /// Where its PUBLISH ends, in bytes since the connection began.
    end: u64,
}

/// Something came that fits nothing in flight. The broker is out of step: nothing of this session can be believed any
/// more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutOfStep;

impl Flight {
    pub fn new(window: u16, protocol: Protocol) -> Self {
        Flight {
            slots: (0..window).map(|_| None).collect(),
            free: (1..=window).collect(),
            unanswered: VecDeque::new(),
            protocol,
            answered: 0,
        }
    }

    /// The packet id for the next message of this QoS, 0 for QoS 0; none while the window is full.
    pub fn next_id(&self, qos: QoS) -> Option<u16> {
        if qos == QoS::AtMostOnce { Some(0) } else { self.free.front().copied() }
    }

    /// Keeps the receipt of the message that was encoded with the [next id](Self::next_id) and ends at `end`.
    pub fn launch(&mut self, receipt: Receipt, qos: QoS, end: u64) {
        if qos == QoS::AtMostOnce {
            return self.unanswered.push_back((end, receipt));
        }
        let slot = self.free.pop_front().and_then(|id| self.slots.get_mut(usize::from(id) - 1));
        if let Some(slot) = slot {
            *slot = Some(Slot { receipt, qos, received: false, end });
        }
    }

    /// The kernel has everything up to `flushed`: QoS 0 asks for no more.
    pub fn flushed(&mut self, flushed: u64) {
        while self.unanswered.front().is_some_and(|(end, _)| *end <= flushed) {
            let Some((_, receipt)) = self.unanswered.pop_front() else { break };
            receipt.handed_over();
        }
    }

    /// PUBREC without a refusal came for this packet id; `taken` is how far the broker may have read.
    pub fn received(&mut self, id: u16, taken: u64) -> Result<(), OutOfStep> {
        let slot = self.slot(id).and_then(Option::as_mut).ok_or(OutOfStep)?;
        if slot.qos != QoS::ExactlyOnce || slot.received || slot.end > taken {
            return Err(OutOfStep);
        }
        slot.received = true;
        Ok(())
    }

    /// The last word about this packet id has come: frees it, and gives out the receipt if the message is one that
    /// this step ends.
    pub fn finish(&mut self, id: u16, step: Step, taken: u64) -> Result<Receipt, OutOfStep> {
        // A broker of 3.1.1 that keeps QoS 2 as QoS 1 answers it so, having no way to say it beforehand: RabbitMQ 3.10.
        let kept_as_qos_1 = self.protocol == Protocol::V311;
        let fits = |slot: &mut Slot| {
            slot.end <= taken
                && match step {
                    Step::Puback => slot.qos == QoS::AtLeastOnce || kept_as_qos_1 && !slot.received,
                    Step::Pubrec => slot.qos == QoS::ExactlyOnce && !slot.received,
                    Step::Pubcomp => slot.received,
                }
        };
        let slot = self.slot(id).and_then(|slot| slot.take_if(fits)).ok_or(OutOfStep)?;
        self.free.push_back(id);
        self.answered = self.answered.max(slot.end);
        Ok(slot.receipt)
    }

    /// Up to where the broker has read for certain, in bytes since the connection began.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    pub fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len() && self.unanswered.is_empty()
    }

    fn slot(&mut self, id: u16) -> Option<&mut Option<Slot>> {
        self.slots.get_mut(usize::from(id).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarder::{Mailbox, Ticket};

    #[test]
    fn answers_in_any_order_tell_how_far_the_broker_has_read() {
        let (mailbox, _woken) = Mailbox::new();
        let mut flight = Flight::new(3, Protocol::V5);
        for (row, qos) in (1..).zip([QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce]) {
            let receipt = Receipt::new(Ticket { row, sending: 1 }, mailbox.clone());
            flight.launch(receipt, qos, 100 * row as u64);
        }
        assert_eq!(flight.answered(), 0);
        flight.received(2, 300).unwrap();
        flight.finish(2, Step::Pubcomp, 300).unwrap();
        assert_eq!(flight.answered(), 200);
        flight.finish(1, Step::Puback, 300).unwrap();
        assert_eq!(flight.answered(), 200, "an older message's answer says nothing new");
        assert_eq!(flight.finish(1, Step::Puback, 300).unwrap_err(), OutOfStep);
        flight.finish(3, Step::Puback, 300).unwrap();
        assert_eq!(flight.answered(), 300);
    }
}
