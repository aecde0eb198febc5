//! What the road does to whoever travels on it.

use std::mem;
use std::time::{Duration, Instant};

use super::{Link, Parcel, Proxy, Road, packet};

/// What is done to packets. The rest, like the end of a connection, happens at once and leaves nothing to remember.
#[derive(Default)]
pub(super) struct Faults {
    pub hold_acks: bool,
    pub ack_delay: Duration,
    pub backwards: bool,
    pub lose_acks: usize,
    pub double_acks: usize,
    pub halve_ack: bool,
    pub lose_publishes: usize,
    pub shed: usize,
    pub truncate: bool,
    pub take_and_break: bool,
    pub rate: Option<usize>,
    pub refuse: Option<(String, u8, usize)>,
    pub refuse_connects: usize,
    pub hang_up: Option<(String, Manners)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    AnswerFirst,
    None,
}

/// How a connection ends.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum End {
    #[default]
    Fin,
    /// TCP says RST, which costs either side what it had not yet read.
    Reset,
}

/// Connections.
impl Proxy {
    /// Ends every connection, and every new one at once, until [`heal`](Self::heal).
    pub fn cut(&self) {
        self.shared.change(|road| {
            road.link = Link::Cut;
            road.end_all(End::Fin);
        });
    }

    /// Ends every connection; new ones are to be had.
    pub fn hiccup(&self) {
        self.shared.change(|road| road.end_all(End::Fin));
    }

    /// The same, and TCP says RST to both sides.
    pub fn reset(&self) {
        self.shared.change(|road| road.end_all(End::Reset));
    }

    /// Ends every connection as a broker of MQTT 5 does that says why.
    pub fn disconnect(&self, reason: u8) {
        self.shared.change(|road| {
            road.say_to_all(&packet::disconnect(reason));
            for line in road.numbers() {
                road.post_end(line);
            }
        });
    }

    /// Says something to every client that its broker did not say.
    pub fn say(&self, bytes: &[u8]) {
        self.shared.change(|road| road.say_to_all(bytes));
    }

    /// Carries nothing until [`heal`](Self::heal), and tells nobody: connections stand, and what is sent waits.
    pub fn fall_silent(&self) {
        self.shared.change(|road| road.link = Link::Silent);
    }

    /// The connections that stand now never carry anything again, and nobody is told; new ones are as good as ever.
    pub fn strand(&self) {
        self.shared.change(|road| {
            for line in road.lines.iter_mut().filter(|line| !line.stranded) {
                line.stranded = true;
                road.traffic.effects += 1;
            }
        });
    }

    /// Takes back [`cut`](Self::cut) and [`fall_silent`](Self::fall_silent).
    pub fn heal(&self) {
        self.shared.change(|road| road.link = Link::Up);
    }

    /// The next ones who connect are told that the broker does not want them.
    pub fn refuse_connects(&self, times: usize) {
        self.shared.change(|road| road.faults.refuse_connects = times);
    }

    /// So many bytes a second get through to the broker on a connection, until [`behave`](Self::behave).
    pub fn throttle(&self, rate: usize) {
        self.shared.change(|road| road.faults.rate = Some(rate));
    }
}

/// Acknowledgements.
impl Proxy {
    /// Keeps acknowledgements here until [`pass_acks`](Self::pass_acks), or [`release`](Self::release) for a single one.
    pub fn hold_acks(&self) {
        self.shared.change(|road| road.faults.hold_acks = true);
    }

    pub fn pass_acks(&self) {
        self.shared.change(|road| road.faults.hold_acks = false);
    }

    /// Lets the acknowledgements that are held now for the message with this payload go on; the others stay.
    pub fn release(&self, payload: &str) {
        self.shared.change(|road| {
            let Road { parcels, traffic, .. } = road;
            for ack in parcels.iter_mut().filter_map(|parcel| parcel.ack.as_mut()) {
                ack.released |= ack.of.is_some_and(|of| traffic.published[of].payload == payload.as_bytes());
            }
        });
    }

    /// Acknowledgements take so much longer.
    pub fn delay_acks(&self, by: Duration) {
        self.shared.change(|road| road.faults.ack_delay = by);
    }

    /// The same, and those that wait then go on in reverse.
    pub fn reverse_acks(&self, by: Duration) {
        self.shared.change(|road| (road.faults.ack_delay, road.faults.backwards) = (by, true));
    }

    /// The next acknowledgements get lost; the broker has the messages.
    pub fn lose_acks(&self, count: usize) {
        self.shared.change(|road| road.faults.lose_acks = count);
    }

    /// The next acknowledgements come twice, one behind the other.
    pub fn double_acks(&self, count: usize) {
        self.shared.change(|road| road.faults.double_acks = count);
    }

    /// Of the next acknowledgement comes the first half, and then the connection ends.
    pub fn halve_ack(&self) {
        self.shared.change(|road| road.faults.halve_ack = true);
    }
}

/// Messages.
impl Proxy {
    /// The next messages never arrive at the broker, and with the last of them the connection ends.
    pub fn lose_publishes(&self, count: usize) {
        self.shared.change(|road| road.faults.lose_publishes = count);
    }

    /// The next messages never arrive at the broker, and the connection stands: nothing but a message of its own tells
    /// that it was not taken.
    pub fn shed(&self, count: usize) {
        self.shared.change(|road| road.faults.shed = count);
    }

    /// Of the next message the first half arrives, and then the connection ends.
    pub fn truncate_publish(&self) {
        self.shared.change(|road| road.faults.truncate = true);
    }

    /// The next message arrives, and the connection ends before it is answered.
    pub fn take_and_break(&self) {
        self.shared.change(|road| road.faults.take_and_break = true);
    }

    /// Answers the next messages to `topic` as a broker would that refuses them for this reason; they do not arrive.
    /// Means nothing on a connection of MQTT 3.1.1, where a broker acknowledges or hangs up.
    pub fn refuse(&self, topic: &str, reason: u8, times: usize) {
        self.shared.change(|road| road.faults.refuse = Some((topic.to_owned(), reason, times)));
    }

    /// Ends the connection whenever a message to `topic` comes, which does not arrive; what came before it is answered.
    pub fn hang_up_on(&self, topic: &str) {
        self.shared.change(|road| road.faults.hang_up = Some((topic.to_owned(), Manners::AnswerFirst)));
    }

    /// The same without an answer to what came before it and is not yet answered.
    pub fn hang_up_rudely_on(&self, topic: &str) {
        self.shared.change(|road| road.faults.hang_up = Some((topic.to_owned(), Manners::None)));
    }

    /// Takes back everything that is done to messages and acknowledgements. Where messages are still to be lost the
    /// connection ends now: what follows lost ones must not arrive.
    pub fn behave(&self) {
        self.shared.change(|road| {
            if mem::take(&mut road.faults).lose_publishes > 0 {
                road.end_all(End::Fin);
            }
        });
    }

    /// How many acknowledgements and messages are still to be lost.
    pub fn losses_left(&self) -> usize {
        let Faults { lose_acks, lose_publishes, .. } = &self.shared.road().faults;
        lose_acks + lose_publishes
    }
}

impl Road {
    fn say_to_all(&mut self, bytes: &[u8]) {
        self.traffic.effects += self.carrying();
        for line in self.numbers() {
            self.parcels.push(Parcel { line, bytes: bytes.to_vec(), arrived: Instant::now(), ack: None });
        }
    }

    /// How many notice what is done to all of them: a stranded one may have lost its client long ago.
    fn carrying(&self) -> usize {
        self.lines.iter().filter(|line| !line.stranded).count()
    }

    fn numbers(&self) -> Vec<usize> {
        self.lines.iter().map(|line| line.number).collect()
    }

    pub(super) fn end_all(&mut self, end: End) {
        self.traffic.effects += self.carrying();
        for number in self.numbers() {
            self.end(number, end);
        }
    }
}

/// Takes one of a number of times that are left; false once none is.
pub(super) fn take_one(left: &mut usize) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}
