//! How often the table is read and written, and what for.

use std::sync::Arc;
use std::time::Duration;

use super::{Bench, Writes, refused, row};
use crate::broker::Verdict;
use crate::forwarder::Outcome;
use crate::forwarder::dispatcher::Action;
use crate::forwarder::dispatcher::lanes::Phase;
use crate::store::{Fate, Lane, Query, Row};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_nanos(1);

fn searches(action: &Action) -> bool {
    matches!(action, Action::Read(Query::Again { .. }))
}

fn looks_for_lanes(action: &Action) -> bool {
    matches!(action, Action::Read(Query::Lanes { .. }))
}

fn writes(action: &Action) -> bool {
    matches!(action, Action::Write(_))
}

/// Each commit may have made a row wait anew. Where all that wait are known, the next search has time.
#[test]
fn the_table_is_searched_for_waiting_rows_no_more_often_than_it_is_polled_where_all_are_known() {
    let mut bench = Bench::new(Vec::new());
    bench.again = vec![Row { attempts: 1, wait: SECOND * 20, ..row(1, None, "t") }];
    bench.run();
    bench.dispatcher.committed();
    bench.run();
    assert_eq!(bench.count(searches), 2);
    let searched_at = bench.now;
    let poll = bench.dispatcher.rules.poll_interval;
    for _ in 0..100 {
        bench.now += poll / 101;
        bench.dispatcher.committed();
        bench.run();
    }
    assert_eq!(bench.count(searches), 0);
    assert_eq!(bench.run(), Some(searched_at + poll));
    bench.now = searched_at + poll;
    bench.run();
    assert_eq!(bench.count(searches), 1);
}

fn waits(ids: std::ops::RangeInclusive<i64>) -> Vec<Row> {
    ids.map(|id| Row { attempts: 1, wait: SECOND, ..row(id, None, "t") }).collect()
}

#[test]
fn waiting_rows_are_found_64_at_a_time_and_all_of_them_at_once() {
    for (rows, looks) in [(63, 1), (64, 2), (130, 3)] {
        let mut bench = Bench::new(Vec::new());
        bench.again = waits(1..=rows);
        bench.run();
        // The look for lanes, which found none, has another round look whether one was released.
        bench.now = SECOND / 2;
        bench.run();
        assert_eq!(bench.dispatcher.waiting.len() as i64, rows);
        assert!(bench.count(searches) >= looks, "{rows} rows");
        bench.now = SECOND * 2;
        bench.run();
        assert_eq!(bench.sent.len() as i64, rows);
    }
}

#[test]
fn no_more_waiting_rows_are_known_than_may_be_and_the_others_are_found_when_there_is_room() {
    let mut bench = Bench::new(Vec::new());
    bench.dispatcher.rules.bounds.waiting = 2;
    bench.again = waits(1..=3);
    bench.run();
    assert_eq!(bench.dispatcher.waiting.len(), 2);
    bench.count(searches);
    bench.now = SECOND / 2;
    bench.run();
    assert_eq!(bench.count(searches), 0);
    bench.rows = bench.again.clone();
    bench.now = SECOND;
    bench.run();
    assert_eq!(bench.sent_rows(), [1, 2]);
    assert!(bench.count(searches) > 0 && bench.dispatcher.waiting.contains(3));
}

/// Where the table does not show yet what was decided, a look at it would find rows that are settled, and miss others.
#[test]
fn what_was_decided_about_waiting_rows_is_written_before_the_table_is_searched_for_them() {
    let decided: [fn(&mut Bench); 2] = [
        |bench| bench.say(bench.sent[0], refused(Verdict::Later)),
        |bench| {
            bench.dispatcher.ledger.push(bench.now, 1, Fate::Sent, true);
            bench.sent.clear();
        },
    ];
    for (number, decide) in decided.into_iter().enumerate() {
        let mut bench = Bench::new(vec![row(1, None, "t")]);
        bench.dispatcher.rules.settle_after = SECOND * 3_600;
        bench.run();
        bench.now = SECOND;
        bench.run();
        bench.count(searches);
        decide(&mut bench);
        bench.dispatcher.committed();
        bench.now += bench.dispatcher.rules.poll_interval;
        bench.run();
        let order: Vec<_> = bench.said.iter().filter(|action| searches(action) || writes(action)).map(writes).collect();
        assert_eq!(order, [true, false], "{number}: {:?}", bench.said);
    }
}

#[test]
fn a_row_that_is_found_waiting_is_sent_when_it_has_waited_long_enough_and_no_longer_than_would_be_drawn() {
    let mut bench = Bench::new(Vec::new());
    let longest = bench.dispatcher.rules.retry.longest;
    bench.again = [(1, SECOND * 2), (2, Duration::MAX)]
        .map(|(id, wait)| Row { attempts: 1, wait, ..row(id, None, "t") })
        .to_vec();
    bench.now = SECOND;
    assert_eq!(bench.run(), Some(SECOND * 3));
    bench.now = SECOND * 3 - MOMENT;
    bench.run();
    assert!(bench.sent.is_empty());
    bench.now = SECOND * 3;
    bench.run();
    assert_eq!(bench.sent_rows(), [1]);
    bench.say(bench.sent[0], Outcome::Acknowledged);
    bench.rows = bench.again.clone();
    bench.now = SECOND + longest;
    bench.run();
    assert_eq!(bench.sent_rows(), [2]);
}

/// Half of the places are for lanes that are found; those that wait for a topic to open are in nobody's way.
#[test]
fn lanes_of_the_table_are_looked_for_while_half_of_their_places_are_free() {
    let topic = Arc::from("closed");
    for (waiting, blocked, looks) in [(0, 0, 1), (1, 0, 1), (2, 0, 0), (1, 2, 1), (2, 1, 0), (0, 3, 1)] {
        let mut bench = Bench::new(Vec::new());
        bench.dispatcher.rules.bounds.lanes = 4;
        for n in 0..waiting {
            bench.dispatcher.lanes.set(&Lane::Key(format!("w{n}").into()), Phase::Waiting(SECOND * 9));
        }
        for n in 0..blocked {
            bench.dispatcher.lanes.set(&Lane::Key(format!("b{n}").into()), Phase::Blocked(Arc::clone(&topic)));
        }
        bench.run();
        assert_eq!(bench.count(looks_for_lanes), looks, "{waiting} wait for a time, {blocked} for a topic");
    }
}

#[test]
fn lanes_that_had_no_room_are_looked_for_again_after_a_while_or_when_a_topic_opens() {
    let mut bench = Bench::new(vec![row(1, None, "t")]);
    bench.run();
    bench.dispatcher.lanes.dormant.any = true;
    bench.dispatcher.lanes.dormant.look_at = SECOND * 5;
    bench.count(looks_for_lanes);
    assert!(bench.run().is_some_and(|next| next <= SECOND * 5));
    bench.now = SECOND * 5 - MOMENT;
    bench.run();
    assert_eq!(bench.count(looks_for_lanes), 0);
    bench.dispatcher.topics.close(Duration::ZERO, &Arc::from("t"), String::new(), SECOND * 60);
    bench.say(bench.sent[0], Outcome::Acknowledged);
    bench.run();
    assert_eq!(bench.count(looks_for_lanes), 1, "one of its topic was taken: it is open");
}

#[test]
fn what_was_decided_is_written_before_the_table_is_searched_for_lanes() {
    let mut bench = Bench::new(vec![row(1, None, "t")]);
    bench.dispatcher.rules.settle_after = SECOND * 3_600;
    bench.run();
    bench.said.clear();
    bench.say(bench.sent[0], Outcome::Acknowledged);
    bench.dispatcher.lanes.dormant.any = true;
    bench.dispatcher.lanes.dormant.look_at = bench.now;
    bench.run();
    let order: Vec<_> =
        bench.said.iter().filter(|action| looks_for_lanes(action) || writes(action)).map(writes).collect();
    assert_eq!(order, [true, false], "{:?}", bench.said);
}

#[test]
fn a_commit_that_makes_rows_durable_is_tried_again_when_it_has_rested() {
    let mut bench = Bench::new(vec![Row { synced: false, ..row(1, None, "t") }]);
    bench.writes = Writes::Fail;
    bench.now = SECOND;
    let rested = SECOND + Duration::from_millis(200);
    bench.run();
    bench.now += SECOND / 8;
    assert_eq!(bench.run(), Some(rested));
    assert_eq!((bench.count(writes), bench.sent.len()), (1, 0));
    bench.now = rested - MOMENT;
    bench.run();
    assert_eq!(bench.count(writes), 0);
    bench.writes = Writes::Stand;
    bench.now = rested;
    bench.run();
    assert_eq!((bench.count(writes), bench.sent_rows()), (1, vec![1]));
}

#[test]
fn with_as_much_settled_as_may_be_unwritten_nothing_is_sent_until_it_is_written() {
    let mut bench = Bench::new((1..=3).map(|id| row(id, None, "t")).collect());
    bench.dispatcher.rules.window = 1;
    bench.dispatcher.rules.bounds.settlements = 2;
    bench.dispatcher.rules.settle_after = SECOND * 3_600;
    bench.run();
    bench.writes = Writes::Busy;
    bench.count(writes);
    bench.say(bench.sent[0], Outcome::Acknowledged);
    bench.run();
    assert_eq!((bench.count(writes), bench.sent_rows()), (0, vec![2]), "there is room for one more");
    bench.say(bench.sent[0], Outcome::Acknowledged);
    bench.run();
    assert_eq!((bench.count(writes), bench.sent_rows()), (1, vec![]));
    bench.writes = Writes::Stand;
    bench.now += SECOND;
    bench.run();
    assert_eq!((bench.fates.len(), bench.sent_rows()), (2, vec![3]));
}

#[test]
fn who_waits_for_it_has_it_written_as_soon_as_nothing_is_in_flight() {
    let mut bench = Bench::new(vec![row(1, None, "t"), row(2, None, "t")]);
    bench.dispatcher.rules.settle_after = SECOND * 3_600;
    bench.run();
    let [first, second] = bench.sent[..] else { panic!("{:?}", bench.sent) };
    bench.dispatcher.hurry(true);
    bench.say(first, Outcome::Acknowledged);
    bench.run();
    assert!(bench.fates.is_empty());
    bench.say(second, Outcome::Acknowledged);
    bench.run();
    assert_eq!(bench.fates.len(), 2);
    bench.count(writes);
    bench.run();
    assert_eq!(bench.count(writes), 0, "there is nothing left to write");
}
