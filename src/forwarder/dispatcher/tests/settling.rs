//! What follows from a word about one message, for it and for those that wait for it.

use std::time::Duration;

use super::{Bench, refused, row};
use crate::broker::Verdict;
use crate::forwarder::dispatcher::{BusyKeys, Ending};
use crate::forwarder::{Outcome, Ticket};
use crate::settings::{Ordering, Settings};
use crate::store::Fate;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_nanos(1);

/// Two messages of a key, the first of them in flight.
fn strict() -> Bench {
    let mut bench = Bench::new(vec![row(1, Some("k"), "t"), row(2, Some("k"), "t")]);
    bench.dispatcher.rules.ordering = Ordering::Strict;
    bench.dispatcher.busy = BusyKeys::new(Ordering::Strict);
    bench.run();
    assert_eq!(bench.sent_rows(), [1]);
    bench
}

#[test]
fn with_strict_order_the_next_of_a_key_goes_when_the_one_before_it_is_settled_in_whatever_way() {
    let ways: [fn(&mut Bench, Ticket); 5] = [
        |bench, ticket| bench.say(ticket, Outcome::Acknowledged),
        |bench, ticket| bench.say(ticket, Outcome::HandedOver),
        |bench, ticket| bench.say(ticket, refused(Verdict::Never)),
        |bench, ticket| {
            bench.sent.clear();
            bench.dispatcher.vanished(ticket);
        },
        // Acknowledged when it was taken for lost already.
        |bench, ticket| {
            bench.dispatcher.down(bench.session(), Ending::Unreachable);
            bench.say(ticket, Outcome::Acknowledged);
            bench.now += Settings::default().reconnect.longest;
        },
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let mut bench = strict();
        let ticket = bench.sent[0];
        way(&mut bench, ticket);
        bench.run();
        assert_eq!(bench.sent_rows(), [2], "way {number}");
    }
}

#[test]
fn an_acknowledgement_that_comes_late_counts_wherever_the_row_is() {
    let late = |prepare: fn(&mut Bench)| {
        let mut bench = Bench::new(vec![row(1, None, "t")]);
        bench.run();
        let ticket = bench.sent[0];
        prepare(&mut bench);
        bench.say(ticket, Outcome::Acknowledged);
        bench.now += Settings::default().reconnect.longest;
        bench.run();
        bench
    };
    let lost: fn(&mut Bench) = |bench| bench.dispatcher.down(bench.session(), Ending::Unreachable);
    let sent_again: fn(&mut Bench) = |bench| {
        bench.dispatcher.down(bench.session(), Ending::Unreachable);
        bench.now += Settings::default().reconnect.longest;
        bench.run();
        assert_eq!(bench.sent_rows(), [1, 1]);
    };
    for prepare in [lost, sent_again] {
        let bench = late(prepare);
        assert_eq!(bench.fates, [(1, Fate::Sent)]);
        assert_eq!((bench.dispatcher.in_flight(), bench.dispatcher.unwritten()), (0, 0));
        assert_eq!(bench.dispatcher.position(), 1);
    }
}

/// A row that came from the stream stands in no index of the table; one that was refused does.
#[test]
fn what_the_table_takes_for_waiting_is_known_of_late_acknowledgements_too() {
    let mut bench = Bench::new(vec![row(1, None, "t")]);
    bench.dispatcher.rules.settle_after = SECOND * 3_600;
    bench.run();
    let ticket = bench.sent[0];
    bench.dispatcher.down(bench.session(), Ending::Unreachable);
    bench.say(ticket, Outcome::Acknowledged);
    assert_eq!(bench.dispatcher.unwritten(), 0);

    let mut bench = Bench::new(vec![row(1, None, "t")]);
    bench.run();
    let ticket = bench.sent[0];
    bench.say(ticket, refused(Verdict::Later));
    bench.run();
    bench.dispatcher.rules.settle_after = SECOND * 3_600;
    bench.say(ticket, Outcome::Acknowledged);
    assert_eq!(bench.dispatcher.unwritten(), -1, "it waits in the table, and is settled here");
    assert_eq!(bench.dispatcher.waiting.len(), 0);
}

#[test]
fn sending_rests_for_a_moment_after_a_delivery_came_back_and_goes_on_then() {
    let mut bench = Bench::new(vec![row(1, None, "t")]);
    bench.now = SECOND;
    bench.run();
    bench.say(bench.sent[0], Outcome::NotDelivered);
    let rested = SECOND + Duration::from_millis(100);
    assert_eq!(bench.run(), Some(rested));
    bench.now = rested - MOMENT;
    bench.run();
    assert!(bench.sent.is_empty());
    bench.now = rested;
    bench.run();
    assert_eq!(bench.sent_rows(), [1]);
}

#[test]
fn one_refused_in_company_goes_once_more_by_itself_and_is_parked_if_that_is_refused_too() {
    let mut bench = Bench::new((1..=3).map(|id| row(id, None, "t")).collect());
    bench.run();
    let [first, second, third] = bench.sent[..] else { panic!("{:?}", bench.sent) };
    bench.say(first, refused(Verdict::Alone));
    bench.run();
    assert_eq!(bench.sent_rows(), [2, 3], "not while others are in flight");
    bench.say(second, Outcome::Acknowledged);
    bench.say(third, Outcome::Acknowledged);
    bench.commit(row(4, None, "t"));
    bench.run();
    assert_eq!(bench.sent_rows(), [1], "and no other beside it");
    bench.say(bench.sent[0], refused(Verdict::Alone));
    bench.run();
    assert_eq!(bench.sent_rows(), [4]);
    assert!(matches!(bench.fates.last(), Some((1, Fate::Failed { .. }))), "{:?}", bench.fates);
}

#[test]
fn a_probe_that_is_refused_for_now_once_more_waits_again_and_its_lane_with_it() {
    let mut bench = Bench::new(vec![row(1, Some("k"), "t"), row(2, Some("k"), "t")]);
    bench.run();
    bench.say(bench.sent[0], refused(Verdict::Later));
    bench.say(bench.sent[0], refused(Verdict::Later));
    bench.run();
    for _ in 0..3 {
        bench.now += bench.dispatcher.rules.retry.longest;
        bench.run();
        assert_eq!(bench.sent_rows(), [1]);
        bench.say(bench.sent[0], refused(Verdict::Later));
        bench.run();
        assert!(bench.sent.is_empty(), "{:?}", bench.sent);
    }
}

#[test]
fn a_message_has_as_many_attempts_as_it_was_given() {
    let mut bench = Bench::new(vec![row(1, None, "t")]);
    bench.dispatcher.rules.max_attempts = 3;
    for _ in 1..3 {
        bench.run();
        bench.say(bench.sent[0], refused(Verdict::Later));
        bench.run();
        assert!(matches!(bench.fates.last(), Some((1, Fate::Waiting { .. }))), "{:?}", bench.fates);
        bench.rows = vec![row(1, None, "t")];
        bench.now += bench.dispatcher.rules.retry.longest;
    }
    bench.run();
    bench.say(bench.sent[0], refused(Verdict::Later));
    bench.run();
    assert!(matches!(bench.fates.last(), Some((1, Fate::Failed { .. }))), "{:?}", bench.fates);
}
