//! Lanes: rows that wait together, in the table, because their key or their topic waits.
//!
//! The rows of a lane are marked in the table (`held_by`), and the position passes over them. In memory stands a bounded
//! set of lanes: why each waits, and a few rows of those that are being emptied. Lanes beyond the bound are *dormant*:
//! they are found again in the table's index when there is room.
//!
//! ```text
//!             refused for now               its wait is over            acknowledged
//!  (no lane) ────────────────► Waiting ─────────────────────► Probing ────────────────► Draining ──► (no lane)
//!      │     its topic closed     ▲   its topic opens            │ refused                 │ refused
//!      └───────────────────────► Blocked ◄───────────────────────┴─────────────────────────┘ (or Waiting)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::store::{Lane, Row};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    /// Until its time has come.
    Waiting(Duration),
    /// Until that topic opens.
    Blocked(Arc<str>),
    /// Its first row is tried by itself; that row's id once it is sent.
    Probing(Option<i64>),
    /// Its rows are sent as there is room.
    Draining,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct LaneState {
    pub phase: Phase,
    /// Rows read from the index and not yet sent.
    pub rows: VecDeque<Row>,
    /// Up to where the index was read.
    pub read_to: i64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lanes {
    known: BTreeMap<Lane, LaneState>,
    timers: BTreeSet<(Duration, Lane)>,
    /// Lanes that are Probing or Draining.
    active: BTreeSet<Lane>,
    blocked: usize,
    /// Whether there may be lanes in the table that are not known here, and how far the search for them has come.
    pub dormant: Dormant,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Dormant {
    pub any: bool,
    /// Whether the present round left lanes alone.
    pub left: bool,
    pub after: Option<Lane>,
    pub look_at: Duration,
}

impl Lanes {
    /// At the start all lanes are dormant.
    pub fn new() -> Self {
        Lanes {
            known: BTreeMap::new(),
            timers: BTreeSet::new(),
            active: BTreeSet::new(),
            blocked: 0,
            dormant: Dormant { any: true, left: false, after: None, look_at: Duration::ZERO },
        }
    }

    pub fn get(&self, lane: &Lane) -> Option<&LaneState> {
        self.known.get(lane)
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn blocked(&self) -> usize {
        self.blocked
    }

    pub fn active(&self) -> &BTreeSet<Lane> {
        &self.active
    }

    /// Whether that row is sent to see how a lane stands: then the lane waits for it.
    pub fn are_probed_by(&self, row: i64) -> bool {
        !self.probed_by(row).is_empty()
    }

    /// The lanes for which that row is sent: one, unless somebody moves rows between lanes meanwhile.
    pub fn probed_by(&self, row: i64) -> Vec<Lane> {
        let probed = |lane: &&Lane| self.get(lane).is_some_and(|state| state.phase == Phase::Probing(Some(row)));
        self.active.iter().filter(probed).cloned().collect()
    }

    /// The earliest lane whose wait ends, and when.
    pub fn next_due(&self) -> Option<(Duration, &Lane)> {
        self.timers.first().map(|(at, lane)| (*at, lane))
    }

    /// A lane blocked on `topic`, if one is known.
    pub fn blocked_on(&self, topic: &Arc<str>) -> Option<Lane> {
        self.known
            .iter()
            .find(|(_, state)| matches!(&state.phase, Phase::Blocked(on) if on == topic))
            .map(|(l, _)| l.clone())
    }

    pub fn all_blocked_on(&self, topic: &Arc<str>) -> Vec<Lane> {
        let on_topic = |state: &LaneState| matches!(&state.phase, Phase::Blocked(on) if on == topic);
        self.known.iter().filter(|(_, state)| on_topic(state)).map(|(lane, _)| lane.clone()).collect()
    }

    /// Puts the lane into a phase, known before or not; what was read of it is dropped unless it goes on being emptied.
    pub fn set(&mut self, lane: &Lane, phase: Phase) {
        let mut state =
            self.remove(lane).unwrap_or(LaneState { phase: Phase::Draining, rows: VecDeque::new(), read_to: 0 });
        match &phase {
            Phase::Waiting(until) => {
                self.timers.insert((*until, lane.clone()));
            }
            Phase::Blocked(_) => self.blocked += 1,
            Phase::Probing(_) | Phase::Draining => {
                self.active.insert(lane.clone());
            }
        }
        if !matches!(phase, Phase::Probing(Some(_)) | Phase::Draining) {
            state.rows.clear();
            state.read_to = 0;
        }
        state.phase = phase;
        self.known.insert(lane.clone(), state);
    }

    pub fn remove(&mut self, lane: &Lane) -> Option<LaneState> {
        let state = self.known.remove(lane)?;
        match &state.phase {
            Phase::Waiting(until) => {
                self.timers.remove(&(*until, lane.clone()));
            }
            Phase::Blocked(_) => self.blocked -= 1,
            Phase::Probing(_) | Phase::Draining => {
                self.active.remove(lane);
            }
        }
        Some(state)
    }

    /// Rows read from the index, behind those that are there.
    pub fn fill(&mut self, lane: &Lane, rows: Vec<Row>, read_to: i64) {
        if let Some(state) = self.known.get_mut(lane) {
            state.rows.extend(rows);
            state.read_to = read_to;
        }
    }

    /// A row was marked that may stand before what was read already.
    pub fn read_anew(&mut self, lane: &Lane) {
        if let Some(state) = self.known.get_mut(lane) {
            state.rows.clear();
            state.read_to = 0;
        }
    }

    pub fn pop_row(&mut self, lane: &Lane) -> Option<Row> {
        self.known.get_mut(lane)?.rows.pop_front()
    }

    /// Makes room by letting a quarter of the lanes go dormant: first those whose topic is closed, then those that wait
    /// longest. Lanes that are being emptied stay.
    pub fn make_room(&mut self, most: usize) -> bool {
        if self.known.len() < most {
            return false;
        }
        let mut idle: Vec<(Duration, Lane)> = self
            .known
            .iter()
            .filter_map(|(lane, state)| match state.phase {
                Phase::Waiting(until) => Some((until, lane.clone())),
                Phase::Blocked(_) => Some((Duration::MAX, lane.clone())),
                Phase::Probing(_) | Phase::Draining => None,
            })
            .collect();
        idle.sort_by(|a, b| b.cmp(a));
        for (_, lane) in idle.into_iter().take((most / 4).max(1)) {
            self.remove(&lane);
        }
        self.dormant.any = true;
        self.dormant.left = true;
        true
    }
}
