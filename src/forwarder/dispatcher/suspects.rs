//! Messages that brokers hang up on.
//!
//! Some brokers answer a message that they dislike by ending the session, so the message would end every session for
//! ever. But a link that breaks by itself looks just the same, and no innocent message may be parked for it. So:
//!
//! 1. When a session ends, the oldest unsettled delivery gets a strike, whatever else was acknowledged. Where it ended
//!    without a single answer, it could have been any of those in flight: so the next session sends a quarter as many at
//!    a time, down to one, and one more with each answer.
//! 2. With three strikes it is a *suspect*: it is set aside and sent alone. If it is settled, it was innocent.
//! 3. If the session ends on it alone, everything else flows: that is the control. Once a session without the suspect has
//!    lived for many times as long as it took to end with it, the suspect is sent alone again.
//! 4. After four sessions that ended on it alone, with every control between them alive, it is parked, if the broker
//!    answered something else in the meantime: one that lets everybody in and hangs up on everything is at fault itself.
//!    Without such a witness, where it is the only one set aside or others wait for it, one message is parked, and more
//!    only after hours; the rest wait and are tried now and then, in nobody's way.
//! 5. If a control ends too soon, nothing is proven: the deaths so far do not count, and no suspect is sent again before
//!    a control has lived. Where control after control ends on the same message there is more than one of the kind, and
//!    that one is set aside too. If one ends with nothing in flight, or they end on this message and on that, it was the
//!    link, and all suspects are cleared.
//! 6. When no more can be set aside nothing else is sent: the idle session is the control, and is proof enough, or what
//!    stands behind them would wait for ever.
//!
//! 7. Where nobody answered anything in a session and we gave it up for that, it may be that nobody listened. What was
//!    found out in such a *deaf* session sets aside and parks like the rest while the broker is mute, but it counts for
//!    nothing once the broker speaks: with the first answer in a session each suspect with nothing else against it is sent again.
//!
//! Why the controls grow: the first is short, so that an innocent message goes soon after the link has healed. All three
//! together are 210 times as long as a death took. If sessions end by chance, at whatever rate, that they end four
//! times within that time and never in the 210 others happens once in 400 million trials.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use super::flight::Item;

const STRIKES: u8 = 3;
const DEATHS_ALONE: u8 = 4;
/// The control after the n-th death alone, in times that the longest of them took. The first one is short: after an
/// outage in which nothing was acknowledged, each death being an `ack_timeout`, everything is to go soon.
const CONTROLS: [u32; DEATHS_ALONE as usize] = [0, 2, 48, 160];
const SHORTEST_CONTROL: Duration = Duration::from_secs(1);
/// From trial to trial while only a witness is missing: doubling, up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// An adapter that never says that it is alive is believed to be after this long without a word of an end.
const SILENT_CONTROL: Duration = Duration::from_secs(60);
/// Without a witness one message is parked, and another one only after so long each: the broker may be at fault.
const UNWITNESSED: [Duration; 3] =
    [Duration::from_secs(3_600), Duration::from_secs(4 * 3_600), Duration::from_secs(24 * 3_600)];
/// In flight without an end of the session: no more caution.
const BOLD: usize = 1_000;
/// Messages with strikes that are remembered; more than that at a time is a link, not a message.
const STRUCK: usize = 64;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Suspect {
    item: Item,
    deaths: u8,
    /// The longest that a session took to end with it in flight.
    exposure: Duration,
    /// Whether the broker answered another message since this one was set aside, or its deaths were taken back.
    witnessed: bool,
    /// Whether deaths were taken back because a control died: it is not sent again before one has lived. With several
    /// of the kind at the head of the queue each would otherwise be tried again for every strike of the next.
    put_back: bool,
    /// Whether all that is held against it was found out in deaf sessions.
    deaf: bool,
}

impl Suspect {
    /// Longer after every death: a link that breaks by the clock must not fall in step with the trials. `answered`:
    /// whether the broker has answered anything in this session.
    fn control(&self, answered: bool) -> Duration {
        if self.deaf && answered {
            return Duration::ZERO;
        }
        let deaths = self.deaths.max(u8::from(self.put_back)).min(DEATHS_ALONE);
        let times = CONTROLS[usize::from(deaths).min(CONTROLS.len() - 1)];
        let control = self.exposure.saturating_mul(times).max(SHORTEST_CONTROL * u32::from(deaths));
        if self.deaths < DEATHS_ALONE {
            return control;
        }
        // Only a witness is missing, and nobody waits for the verdict.
        control.saturating_mul(1 << (self.deaths - deaths).min(16)).min(LONGEST_WAIT)
    }

    /// A session ended on it alone.
    fn die(&mut self, exposure: Duration, deaf: bool) {
        self.put_back = false;
        self.exposure = self.exposure.max(exposure);
        if deaf && self.deaths > 0 && !self.deaf {
            return; // what was found out before, while somebody listened, stands
        }
        if self.deaf && !deaf {
            self.deaths = 0;
        }
        self.deaf = deaf;
        self.deaths = self.deaths.saturating_add(1);
    }

    /// Whether it had its trials, and only an answer to another message can tell what it is.
    fn lacks_witness(&self) -> bool {
        self.deaths >= DEATHS_ALONE && (self.deaf || !self.witnessed)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Suspects {
    strikes: BTreeMap<i64, (u8, Duration)>,
    aside: BTreeMap<i64, Suspect>,
    /// The one that is to be sent alone, or was: then it is in flight.
    tried: Option<i64>,
    /// Controls that ended too soon, since one lived or a suspect was added.
    dead_controls: u8,
    /// The session without a suspect in flight, if one stands.
    control: Option<Control>,
    /// Most messages to have in flight, after sessions that ended without an answer.
    caution: Option<usize>,
    /// Whether the broker has answered anything in this session.
    answered: bool,
    /// When a message was last parked without a witness, and how many were since the broker answered anything.
    unwitnessed: Option<(Duration, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Control {
    since: Duration,
    heard: Duration,
    pinged: bool,
}

/// How a session came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The other side, or the link, ended it.
    Broken,
    /// We did: an answer was overdue.
    GivenUp,
}

/// What the end of a session means for the suspects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    Nothing,
    /// Set this one aside.
    Suspect(i64),
    /// This one is guilty: park it.
    Guilty(i64),
    /// It was the link: all of these are ordinary messages again.
    Cleared(Vec<Item>),
}

impl Suspects {
    pub fn len(&self) -> usize {
        self.aside.len()
    }

    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.aside.values().map(|suspect| &suspect.item)
    }

    /// Those whose turn may come: a trial that proves nothing by itself must not end the control of another, for ever.
    fn in_turn(&self) -> impl Iterator<Item = &Suspect> {
        let all_lack_witness = self.aside.values().all(Suspect::lacks_witness);
        self.aside.values().filter(move |suspect| all_lack_witness || !suspect.lacks_witness())
    }

    pub fn contains(&self, id: i64) -> bool {
        self.aside.contains_key(&id)
    }

    /// A session stands: its time as a control begins.
    pub fn session_up(&mut self, now: Duration) {
        self.control = Some(Control { since: now, heard: now, pinged: false });
    }

    /// A fresh session: nothing in it was settled yet.
    pub fn session_begun(&mut self, now: Duration) {
        self.answered = false;
        self.session_up(now);
    }

    /// The broker answered the message `id`, with yes or no.
    pub fn answered(&mut self, now: Duration, id: i64) {
        self.answered = true;
        self.caution = self.caution.map(|most| most + 1).filter(|most| *most < BOLD);
        self.unwitnessed = None;
        self.heard(now);
        // If sessions ended on that one too, it was the broker, or the link, and the others' deaths prove as little.
        let cleared = self.aside.get(&id).is_some_and(|suspect| suspect.deaths > 0);
        for suspect in self.aside.values_mut() {
            if cleared {
                (suspect.deaths, suspect.deaf) = (0, false);
            }
            suspect.witnessed = !cleared;
        }
    }

    /// Whether all that stand aside had their trials, and only an answer to another message can tell what they are.
    #[cfg(test)]
    pub fn want_witness(&self) -> bool {
        self.aside.values().all(Suspect::lacks_witness)
    }

    /// How many messages may be in flight.
    pub fn window(&self) -> usize {
        self.caution.unwrap_or(usize::MAX)
    }

    /// A session that stood has ended with so many in flight.
    pub fn take_care(&mut self, in_flight: usize) {
        if !self.answered && in_flight > 0 {
            self.caution = Some((in_flight / 4).max(1));
        }
    }

    /// The other side said something.
    pub fn heard(&mut self, now: Duration) {
        if let Some(control) = &mut self.control {
            control.heard = now;
        }
    }

    /// Whether the other side is to be asked for a sign of life: the control has lived long enough, if it lives.
    pub fn wants_ping(&mut self, now: Duration) -> bool {
        let Some(Control { since, heard, .. }) = self.control else { return false };
        let needed = |suspect: &Suspect| since.saturating_add(suspect.control(self.answered));
        let silent = self.in_turn().any(|suspect| now >= needed(suspect) && heard < needed(suspect));
        let asks = silent && self.tried.is_none();
        asks && self.control.as_mut().is_some_and(|control| !std::mem::replace(&mut control.pinged, true))
    }

    /// Settled in whatever way, or gone: nothing is held against it any more. Gives it back if it stood aside.
    pub fn forget(&mut self, now: Duration, id: i64) -> Option<Item> {
        self.strikes.remove(&id);
        if self.tried == Some(id) {
            self.tried = None;
            self.session_up(now);
        }
        self.aside.remove(&id).map(|suspect| suspect.item)
    }

    /// The suspect to send alone: while there is one, nothing else may be sent.
    pub fn trial(&mut self, now: Duration) -> Option<i64> {
        if self.tried.is_none() {
            let Control { since, heard, .. } = self.control?;
            let lived = |suspect: &&Suspect| {
                let needed = since.saturating_add(suspect.control(self.answered));
                heard >= needed && now >= needed || now >= needed.saturating_add(SILENT_CONTROL)
            };
            let next = self.in_turn().filter(lived).map(|s| (s.deaths, s.item.row.id)).min()?;
            self.tried = Some(next.1);
            self.dead_controls = 0;
        }
        self.tried
    }

    /// When the next trial may begin at the earliest without another word from the adapter.
    pub fn due(&self) -> Option<Duration> {
        let control = self.control.as_ref()?;
        let ready = |suspect: &Suspect| {
            let needed = control.since.saturating_add(suspect.control(self.answered));
            if control.heard < needed && control.pinged { needed.saturating_add(SILENT_CONTROL) } else { needed }
        };
        self.in_turn().map(ready).min()
    }

    /// The one on trial came back without an answer.
    pub fn put_off(&mut self, now: Duration) {
        self.tried = None;
        self.session_up(now);
    }

    /// The message of a suspect, to be sent.
    pub fn item(&self, id: i64) -> Option<&Item> {
        self.aside.get(&id).map(|suspect| &suspect.item)
    }

    pub fn set_aside(&mut self, item: Item) {
        let id = item.row.id;
        self.dead_controls = 0;
        let exposure = self.strikes.get(&id).map_or(Duration::ZERO, |(_, exposure)| *exposure);
        let suspect = Suspect { item, deaths: 0, exposure, witnessed: false, put_back: false, deaf: false };
        self.aside.insert(id, suspect);
    }

    /// A session that stood has ended, or was given up for want of an answer; `oldest` was unsettled and had been sent at
    /// that time. `holds_up`: others wait for that one, if it stands aside, and so cannot be its witnesses.
    pub fn session_ended(
        &mut self,
        now: Duration,
        end: End,
        oldest: Option<(i64, Duration)>,
        most: usize,
        holds_up: impl FnOnce(&Item) -> bool,
    ) -> Judgement {
        let control = self.control.take();
        let deaf = end == End::GivenUp && !self.answered;
        let exposure = oldest.map(|(_, sent)| now.saturating_sub(sent)).unwrap_or_default();
        let oldest = oldest.map(|(id, _)| id);

        self.tried = None;
        let (alone, full) = (self.aside.len() == 1, self.aside.len() >= most);
        let another = self.may_do_without_witness(now);
        // A suspect is never sent but alone.
        if let Some((id, suspect)) = oldest.and_then(|id| Some((id, self.aside.get_mut(&id)?))) {
            suspect.die(exposure, deaf);
            if suspect.deaths < DEATHS_ALONE {
                return Judgement::Nothing;
            }
            if full || !suspect.lacks_witness() {
                return Judgement::Guilty(id);
            }
            if another && (alone || holds_up(&suspect.item)) {
                self.unwitnessed = Some((now, self.unwitnessed.map_or(1, |(_, times)| times + 1)));
                return Judgement::Guilty(id);
            }
            return Judgement::Nothing;
        }
        let needed = self.aside.values().map(|suspect| suspect.control(self.answered)).max();
        let lived = control.map(|control| control.heard.saturating_sub(control.since)).unwrap_or_default();
        if needed.is_some_and(|needed| lived < needed) {
            self.dead_controls += 1;
            for suspect in self.aside.values_mut() {
                (suspect.deaths, suspect.witnessed, suspect.put_back, suspect.deaf) = (0, false, true, deaf);
            }
            if oldest.is_none() || self.dead_controls > 2 * STRIKES {
                self.dead_controls = 0;
                self.strikes.clear();
                return Judgement::Cleared(std::mem::take(&mut self.aside).into_values().map(|s| s.item).collect());
            }
        }
        match oldest {
            Some(id) if self.strike(id, exposure) >= STRIKES && self.aside.len() < most => Judgement::Suspect(id),
            _ => Judgement::Nothing,
        }
    }

    fn may_do_without_witness(&self, now: Duration) -> bool {
        self.unwitnessed.is_none_or(|(last, times)| {
            let wait = UNWITNESSED[(times - 1).min(UNWITNESSED.len() - 1)];
            now >= last.saturating_add(wait)
        })
    }

    fn strike(&mut self, id: i64, exposure: Duration) -> u8 {
        if self.strikes.len() >= STRUCK && !self.strikes.contains_key(&id) {
            self.strikes.clear();
        }
        let (strikes, longest) = self.strikes.entry(id).or_default();
        *strikes = strikes.saturating_add(1);
        *longest = (*longest).max(exposure);
        *strikes
    }
}
