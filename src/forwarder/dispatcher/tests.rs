//! Rules that deserve a test of their own, beside the simulation that found them; and its parts, each by itself.

mod busy;
mod ending;
mod flight;
mod lanes;
mod ledger;
mod looks;
mod sessions;
mod settling;
mod topics;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use super::{Action, Dice, Dispatcher, Ending, Rules, Session};
use crate::Settings;
use crate::broker::{Limits, Refusal, Verdict};
use crate::forwarder::{Outcome, Ticket};
use crate::store::{Fate, Lane, Query, Row};

/// A dispatcher over rows that nobody changes but itself, and all that it said.
struct Bench {
    dispatcher: Dispatcher,
    now: Duration,
    rows: Vec<Row>,
    newest: i64,
    held: Vec<(Lane, Row)>,
    /// What the table's index of waiting rows shows.
    again: Vec<Row>,
    writes: Writes,
    sent: Vec<Ticket>,
    /// What it said beside sending: queries, batches, orders about sessions.
    said: Vec<Action>,
    fates: Vec<(i64, Fate)>,
    positions: Vec<i64>,
}

/// What becomes of what is to be written.
#[derive(Clone, Copy)]
enum Writes {
    Stand,
    Fail,
    /// Others write just now.
    Busy,
}

impl Bench {
    fn new(rows: Vec<Row>) -> Self {
        let mut rules = Rules::from(&Settings::default());
        rules.bounds.position = 1;
        rules.settle_after = Duration::ZERO;
        let newest = rows.len() as i64;
        Bench {
            dispatcher: Dispatcher::new(rules, Dice::seeded(1), 0, newest),
            now: Duration::ZERO,
            rows,
            newest,
            held: Vec::new(),
            again: Vec::new(),
            writes: Writes::Stand,
            sent: Vec::new(),
            said: Vec::new(),
            fates: Vec::new(),
            positions: Vec::new(),
        }
    }

    /// Does what it says until it waits; until when. It never waits for a time that has passed: that would be no wait.
    fn run(&mut self) -> Option<Duration> {
        loop {
            let action = self.dispatcher.next(self.now);
            if !matches!(action, Action::Send { .. } | Action::Wait(_)) {
                self.said.push(action.clone());
            }
            match action {
                Action::Connect(session) => self.dispatcher.up(session, Limits::UNLIMITED),
                Action::Send { ticket, .. } => self.sent.push(ticket),
                Action::Write(batch) if !matches!(self.writes, Writes::Stand) => {
                    self.dispatcher.not_written(batch, matches!(self.writes, Writes::Busy));
                }
                Action::Write(batch) => {
                    for settlement in &batch.settlements {
                        let row = self.rows.iter().find(|row| row.id == settlement.id).cloned().expect("a row of ours");
                        self.rows.retain(|row| row.id != settlement.id);
                        self.held.retain(|(_, row)| row.id != settlement.id);
                        match &settlement.fate {
                            Fate::Held { lane } => self.held.push((lane.clone(), row)),
                            Fate::Waiting { lane: Some(lane), wait, .. } => {
                                self.held.push((lane.clone(), Row { attempts: row.attempts + 1, wait: *wait, ..row }));
                            }
                            _ => {}
                        }
                        self.rows.extend(
                            self.held.last().filter(|(_, row)| row.id == settlement.id).map(|(_, r)| r.clone()),
                        );
                        self.fates.push((settlement.id, settlement.fate.clone()));
                    }
                    self.positions.extend(batch.position);
                    self.dispatcher.written(&batch);
                }
                Action::Read(query) => self.read(&query),
                Action::Wait(until) => {
                    assert!(until.is_none_or(|until| until > self.now), "{until:?} has passed at {:?}", self.now);
                    return until;
                }
                Action::Stop => return None,
                Action::Disconnect(_) | Action::Ping => {}
            }
        }
    }

    fn commit(&mut self, row: Row) {
        self.newest = row.id;
        self.rows.push(row);
        self.dispatcher.committed();
    }

    fn read(&mut self, query: &Query) {
        let is_held = |id: i64| self.held.iter().any(|(_, row)| row.id == id);
        let rows = match query {
            Query::Lanes { .. } => return self.dispatcher.lanes_found(query, Vec::new()),
            Query::Again { after, rows } => {
                self.again.iter().filter(|row| row.id > *after).take(*rows).cloned().collect()
            }
            Query::Fresh { after, .. } => {
                self.rows.iter().filter(|row| row.id > *after && !is_held(row.id)).cloned().collect()
            }
            Query::Lane { lane, after, .. } => {
                let mut of_lane: Vec<Row> = self
                    .held
                    .iter()
                    .filter(|(l, row)| l == lane && row.id > *after)
                    .map(|(_, row)| row.clone())
                    .collect();
                of_lane.sort_by_key(|row| row.id);
                of_lane
            }
        };
        self.dispatcher.found(query, rows, self.newest);
    }

    fn say(&mut self, ticket: Ticket, outcome: Outcome) {
        self.sent.retain(|other| *other != ticket);
        self.dispatcher.settled(ticket, outcome);
    }

    fn sent_rows(&self) -> Vec<i64> {
        self.sent.iter().map(|ticket| ticket.row).collect()
    }

    /// How often it said something of that kind, since it was asked last.
    fn count(&mut self, kind: impl Fn(&Action) -> bool) -> usize {
        std::mem::take(&mut self.said).iter().filter(|action| kind(action)).count()
    }

    fn has_stopped(&self) -> bool {
        self.said.contains(&Action::Stop)
    }

    fn session(&self) -> u64 {
        self.dispatcher.sessions.number
    }

    /// Lets time pass, and the other side answer pings meanwhile, until something is to be done.
    fn wait(&mut self, until: Option<Duration>) {
        self.now = until.unwrap_or(self.now + Duration::from_secs(1)).min(self.now + Duration::from_secs(1));
        if matches!(self.dispatcher.session(), Session::Up { .. }) {
            self.dispatcher.alive(self.session());
        }
    }
}

fn row(id: i64, key: Option<&str>, topic: &str) -> Row {
    Row {
        id,
        topic: Arc::from(topic),
        key: key.map(Arc::from),
        size: 10,
        attempts: 0,
        wait: Duration::ZERO,
        synced: true,
        lane_held: false,
    }
}

fn refused(verdict: Verdict) -> Outcome {
    Outcome::Refused(Refusal::new(verdict, "for the test"))
}

/// The word that the session is over may come after the receipts of what it had in flight.
#[test]
fn receipts_dropped_before_the_word_of_the_end_are_strikes_all_the_same() {
    for drops_first in [false, true] {
        let mut bench = Bench::new(vec![row(1, None, "t")]);
        for _ in 0..10_000 {
            let until = bench.run();
            let Some(ticket) = bench.sent.first().copied() else {
                if !bench.fates.is_empty() {
                    break;
                }
                bench.wait(until);
                continue;
            };
            let session = bench.session();
            if !drops_first {
                bench.dispatcher.down(session, Ending::Unreachable);
            }
            bench.say(ticket, Outcome::NotDelivered);
            bench.dispatcher.down(session, Ending::Unreachable);
        }
        assert!(matches!(bench.fates[..], [(1, Fate::Failed { .. })]), "{:?}", bench.fates);
    }
}

#[test]
fn a_message_refused_once_is_settled_before_an_unsent_one_of_its_key_is_sent() {
    let mut bench = Bench::new(vec![row(1, Some("k"), "t"), row(2, Some("k"), "t")]);
    let until = bench.run();
    assert_eq!(bench.sent_rows(), [1, 2]);
    bench.say(bench.sent[0], refused(Verdict::Later));
    bench.say(bench.sent[0], refused(Verdict::Later));
    bench.commit(row(3, Some("k"), "t"));
    bench.run();
    assert!(bench.sent.is_empty());
    bench.now = bench.now.max(until.unwrap_or_default()) + Settings::default().retry.longest;
    for expected in [1, 2, 3] {
        bench.run();
        assert_eq!(bench.sent_rows(), [expected]);
        bench.say(bench.sent[0], Outcome::Acknowledged);
    }
}

#[test]
fn a_probe_that_comes_back_to_a_shut_topic_leaves_its_lane_waiting_and_not_stuck() {
    let mut bench = Bench::new(vec![row(1, Some("k"), "t")]);
    bench.run();
    bench.say(bench.sent[0], refused(Verdict::Topic));
    bench.run();
    bench.now += Settings::default().reconnect.longest;
    bench.run();
    assert_eq!(bench.sent_rows(), [1], "the topic is tried again");
    // Another sending of the topic is refused while the probe comes back undelivered.
    bench.dispatcher.topics.close(bench.now, &Arc::from("t"), "again".into(), bench.now + Duration::from_secs(30));
    bench.say(bench.sent[0], Outcome::NotDelivered);
    bench.now += Duration::from_secs(5);
    bench.run();
    assert!(bench.sent.is_empty());
    bench.now += Settings::default().reconnect.longest * 2;
    bench.run();
    assert_eq!(bench.sent_rows(), [1], "and again");
}

#[test]
fn the_broker_has_closed_all_only_where_nothing_was_sent_and_nothing_is_left_to_try() {
    let shut = |bench: &Bench| bench.dispatcher.all_topics_shut().is_some();
    let bench = || {
        let mut bench = Bench::new(vec![row(1, None, "ok"), row(2, None, "no")]);
        bench.run();
        assert_eq!(bench.sent_rows(), [1, 2]);
        bench
    };
    for first in [Outcome::Acknowledged, Outcome::HandedOver] {
        let mut bench = bench();
        let [ok, no] = bench.sent[..] else { panic!("{:?}", bench.sent) };
        bench.say(ok, first.clone());
        bench.say(no, refused(Verdict::Topic));
        bench.run();
        assert!(!shut(&bench), "{first:?}, then the other topic is closed");
    }
    let mut bench = bench();
    let [ok, no] = bench.sent[..] else { panic!("{:?}", bench.sent) };
    bench.say(no, refused(Verdict::Topic));
    bench.run();
    assert!(!shut(&bench), "one of another topic is still on its way");
    bench.say(ok, refused(Verdict::Topic));
    bench.run();
    assert!(shut(&bench));
    // A new session has not tried anything yet.
    let session = bench.session();
    bench.dispatcher.down(session, Ending::Recycled);
    bench.now += Duration::from_secs(1);
    bench.run();
    assert!(!shut(&bench), "nothing was tried on this session");
    bench.now += Settings::default().reconnect.longest;
    bench.run();
    assert_eq!(bench.sent.len(), 2, "both are tried again");
    bench.say(bench.sent[0], refused(Verdict::Topic));
    bench.run();
    assert!(shut(&bench), "the probe of a closed topic is no topic that is open");
}

#[test]
fn resuming_does_not_wait_for_the_time_of_the_next_session() {
    let mut bench = Bench::new(vec![row(1, None, "t")]);
    bench.run();
    let (session, ticket) = (bench.session(), bench.sent[0]);
    bench.dispatcher.down(session, Ending::Refused);
    bench.say(ticket, Outcome::NotDelivered);
    let until = bench.run();
    assert!(until.is_some_and(|until| until > bench.now), "{until:?}");
    assert!(bench.sent.is_empty());
    bench.dispatcher.resume();
    bench.run();
    assert_eq!(bench.sent_rows(), [1]);
}

#[test]
fn the_position_never_passes_what_will_be_read_again() {
    let mut bench = Bench::new(vec![row(1, None, "t"), row(2, None, "t"), row(3, None, "t")]);
    bench.dispatcher.rules.window = 1;
    bench.run();
    bench.dispatcher.cursor = 1;
    bench.dispatcher.fresh.clear();
    assert_eq!(bench.dispatcher.position(), 0);
    bench.say(bench.sent[0], Outcome::Acknowledged);
    bench.dispatcher.cursor = 0;
    assert_eq!(bench.dispatcher.position(), 0);
}

#[test]
fn a_probe_that_is_refused_for_a_while_does_not_leave_its_topic_without_one() {
    let mut bench = Bench::new(vec![row(1, None, "t"), row(2, None, "t")]);
    bench.run();
    assert_eq!(bench.sent_rows(), [1, 2]);
    bench.say(bench.sent[0], refused(Verdict::Topic));
    bench.say(bench.sent[0], refused(Verdict::Topic));
    bench.run();
    bench.now += Settings::default().reconnect.longest;
    bench.run();
    assert_eq!(bench.sent_rows(), [1]);
    bench.say(bench.sent[0], refused(Verdict::Later));
    bench.run();
    assert_eq!(bench.sent_rows(), [2]);
}
