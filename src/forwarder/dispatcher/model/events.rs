//! What can happen next in a state of the world, what goes wrong included; and what does where everything goes well.

use super::configuration::Configuration;
use super::faults::Fault;
use super::world::{Line, World};
use crate::broker::Verdict;

/// What can happen next.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Event {
    /// The thread does what the dispatcher says, or waits as long as it says.
    Step,
    /// The same, but what is to be written is not; or it is, and the answer says that it is not.
    WriteFails {
        busy: bool,
        committed: bool,
    },
    /// The application commits its next row.
    Commit,
    /// The forwarder notices.
    Notice,
    /// The session that was asked for stands.
    Up,
    /// It does not, and will not.
    NoSession(Refused),
    /// The broker takes the message and says so. Any of those in flight: answers overtake one another.
    Acknowledge(usize),
    /// It takes the message, and its answer is lost.
    LoseAnswer(usize),
    Refuse(usize, Verdict),
    /// The adapter lets go of one while the session stands.
    Drop(usize),
    /// The session breaks.
    Cut,
    /// The forwarder hears that the session is over.
    HearDown,
    /// A word about a sending of a session that is over.
    AcknowledgeLate(usize),
    RefuseLate(usize, Verdict),
    /// The application wants a polite end; then it starts again.
    Stop,
    /// The process dies, and is started again.
    Crash,
    /// The whole device does.
    PowerCut,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Refused {
    Unreachable,
    ByTheBroker,
}

impl World {
    /// Everything that can happen now, what goes wrong included.
    pub fn events(&self, configuration: &Configuration, events: &mut Vec<Event>) {
        if self.broken.is_some() {
            return;
        }
        let may = |fault: Fault| self.faults.left(fault);
        if may(Fault::PowerCut) {
            events.push(Event::PowerCut);
        }
        if may(Fault::Crash) {
            events.push(Event::Crash);
        }
        if may(Fault::Stop) {
            events.push(Event::Stop);
        }
        for (index, _) in self.late.iter().enumerate() {
            if may(Fault::LateAnswer) {
                events.push(Event::AcknowledgeLate(index));
            }
            if may(Fault::LateRefusal) {
                events.extend(configuration.verdicts.iter().map(|verdict| Event::RefuseLate(index, *verdict)));
            }
        }
        self.line_events(configuration, events);
        if self.table.newest() < configuration.rows.len() as i64 {
            events.push(Event::Commit);
        }
        if self.unnoticed {
            events.push(Event::Notice);
        }
        if may(Fault::Write) {
            let failures = [(true, false), (false, false), (false, true)];
            events.extend(failures.map(|(busy, committed)| Event::WriteFails { busy, committed }));
        }
        events.push(Event::Step);
    }

    fn line_events(&self, configuration: &Configuration, events: &mut Vec<Event>) {
        let may = |fault: Fault| self.faults.left(fault);
        match self.line {
            Line::None => {}
            Line::Asked(_) => {
                if may(Fault::NoSession) {
                    events.extend([Refused::Unreachable, Refused::ByTheBroker].map(Event::NoSession));
                }
                events.push(Event::Up);
            }
            Line::Broken(_) => {
                // The adapter drops what it holds before the word that the session is over, or with it.
                events.extend(self.answerable().map(Event::Drop));
                if may(Fault::LateAnswer) {
                    events.extend(self.answerable().map(Event::Acknowledge));
                }
                events.push(Event::HearDown);
            }
            Line::Up(_) | Line::Closing(_) => {
                if may(Fault::Cut) && matches!(self.line, Line::Up(_)) {
                    events.push(Event::Cut);
                }
                if may(Fault::Drop) {
                    events.extend((0..self.wire.len()).map(Event::Drop));
                }
                for index in self.answerable() {
                    if may(Fault::LoseAnswer) {
                        events.push(Event::LoseAnswer(index));
                    }
                    let refusals = configuration.verdicts.iter().filter(|verdict| may(Fault::refusal(**verdict)));
                    events.extend(refusals.map(|verdict| Event::Refuse(index, *verdict)));
                    events.push(Event::Acknowledge(index));
                }
                if matches!(self.line, Line::Closing(_)) {
                    events.push(Event::HearDown);
                }
            }
        }
    }

    pub fn answerable(&self) -> impl Iterator<Item = usize> + '_ {
        self.wire.iter().enumerate().filter(|(_, flying)| !flying.lost).map(|(index, _)| index)
    }

    /// What happens when everything goes well from now on, a promptly answering broker included.
    pub fn calm_event(&self) -> Event {
        match self.line {
            Line::Asked(_) => Event::Up,
            Line::Broken(_) => Event::HearDown,
            Line::Up(_) | Line::Closing(_) if self.answerable().next().is_some() => {
                Event::Acknowledge(self.answerable().next().unwrap_or(0))
            }
            Line::Closing(_) => Event::HearDown,
            Line::None | Line::Up(_) if self.unnoticed => Event::Notice,
            Line::None | Line::Up(_) => Event::Step,
        }
    }

    /// What an event is, here, for people.
    pub fn in_words(&self, event: Event) -> String {
        match event {
            Event::Step => format!("Step: {:?}", self.dispatcher.clone().next(self.now)),
            Event::Acknowledge(index) | Event::LoseAnswer(index) | Event::Refuse(index, _) | Event::Drop(index) => {
                format!("{event:?}: row {}", self.wire[index].ticket.row)
            }
            Event::AcknowledgeLate(index) | Event::RefuseLate(index, _) => {
                format!("{event:?}: row {}", self.late[index].row)
            }
            Event::Commit => format!("Commit: row {}", self.table.newest() + 1),
            event => format!("{event:?}"),
        }
    }
}
