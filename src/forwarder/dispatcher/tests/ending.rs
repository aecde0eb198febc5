//! How sessions end, by whose word, and how everything does.

use std::time::Duration;

use super::{Bench, Writes, row};
use crate::broker::Limits;
use crate::forwarder::Outcome;
use crate::forwarder::dispatcher::{Action, Ending, Session};
use crate::store::Fate;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_nanos(1);

/// Two messages in flight, and nothing is written before its time.
fn two_in_flight() -> Bench {
    let mut bench = Bench::new(vec![row(1, None, "t"), row(2, None, "t")]);
    bench.dispatcher.rules.settle_after = SECOND * 3_600;
    bench.run();
    assert_eq!(bench.sent_rows(), [1, 2]);
    bench.now = SECOND;
    bench.run();
    bench.said.clear();
    bench
}

fn is_connect(action: &Action) -> bool {
    matches!(action, Action::Connect(_))
}

#[test]
fn a_stop_waits_for_what_is_in_flight_and_writes_down_what_came() {
    let mut bench = two_in_flight();
    let [first, second] = bench.sent[..] else { panic!("{:?}", bench.sent) };
    let (politely, until) = (bench.now + SECOND * 5, bench.now + SECOND * 10);
    bench.say(first, Outcome::Acknowledged);
    bench.dispatcher.stop(politely, until);
    bench.run();
    assert_eq!(bench.said, [Action::Disconnect(politely)]);
    bench.say(second, Outcome::Acknowledged);
    bench.commit(row(3, None, "t"));
    bench.run();
    assert!(bench.fates.is_empty() && bench.sent.is_empty(), "nothing new is sent");
    bench.dispatcher.down(bench.session(), Ending::Recycled);
    bench.run();
    assert!(bench.has_stopped());
    assert_eq!(bench.fates, [(1, Fate::Sent), (2, Fate::Sent)]);
    assert_eq!(bench.positions, [2]);
    bench.dispatcher.resume();
    assert_eq!(bench.dispatcher.next(until * 2), Action::Stop, "and that is the end");
}

#[test]
fn a_session_that_does_not_end_is_left_behind() {
    let mut bench = two_in_flight();
    let politely = bench.now + SECOND * 5;
    bench.dispatcher.stop(politely, politely + SECOND * 5);
    let given_up = bench.run().expect("a time");
    assert_eq!(given_up, politely + SECOND / 2, "what an adapter gets beyond its time");
    bench.now = given_up - MOMENT;
    bench.run();
    assert!(!bench.has_stopped());
    bench.now = given_up;
    bench.run();
    assert_eq!(bench.said, [Action::Disconnect(politely), Action::Disconnect(given_up), Action::Stop]);
}

#[test]
fn what_cannot_be_written_down_in_time_does_not_keep_it_from_stopping() {
    let mut bench = two_in_flight();
    bench.say(bench.sent[0], Outcome::Acknowledged);
    let (politely, until) = (bench.now, bench.now + SECOND * 10);
    bench.writes = Writes::Fail;
    bench.dispatcher.stop(politely, until);
    bench.run();
    bench.dispatcher.down(bench.session(), Ending::Recycled);
    assert!(bench.run().is_some_and(|next| next <= until));
    bench.now = until - MOMENT;
    bench.run();
    assert!(!bench.has_stopped(), "there is time left, and it is tried");
    assert!(bench.count(|action| matches!(action, Action::Write(_))) > 1);
    bench.now = until;
    bench.run();
    assert!(bench.has_stopped());
}

#[test]
fn a_stop_tries_at_once_what_could_not_be_written_a_moment_ago() {
    let mut bench = two_in_flight();
    bench.dispatcher.rules.settle_after = Duration::ZERO;
    bench.writes = Writes::Fail;
    bench.say(bench.sent[0], Outcome::Acknowledged);
    bench.run();
    bench.writes = Writes::Stand;
    bench.run();
    assert!(bench.fates.is_empty(), "it rests after a failure");
    bench.dispatcher.stop(bench.now, bench.now + SECOND);
    bench.run();
    assert_eq!(bench.fates, [(1, Fate::Sent)]);
}

#[test]
fn a_second_stop_hurries_the_first_and_never_slows_it() {
    let mut bench = two_in_flight();
    let at = |seconds| SECOND * seconds;
    bench.dispatcher.stop(at(20), at(30));
    bench.run();
    bench.dispatcher.stop(at(40), at(25));
    bench.run();
    bench.dispatcher.stop(at(10), at(50));
    bench.run();
    assert_eq!(bench.said, [Action::Disconnect(at(20)), Action::Disconnect(at(10))]);
    bench.writes = Writes::Fail;
    bench.say(bench.sent[0], Outcome::Acknowledged);
    bench.dispatcher.down(bench.session(), Ending::Recycled);
    bench.now = at(25) - MOMENT;
    bench.run();
    assert!(!bench.has_stopped());
    bench.now = at(25);
    bench.run();
    assert!(bench.has_stopped());
}

#[test]
fn a_pause_ends_the_session_and_none_begins_before_it_is_over() {
    let mut bench = two_in_flight();
    bench.dispatcher.pause();
    bench.run();
    assert_eq!(bench.said, [Action::Disconnect(bench.now + SECOND * 5)], "what is in flight gets some time");
    bench.dispatcher.down(bench.session(), Ending::Recycled);
    assert_eq!(bench.run(), None, "there is nothing to wait for");
    bench.now += SECOND * 3_600;
    bench.run();
    assert!(bench.dispatcher.is_paused());
    assert_eq!(bench.count(is_connect), 0);
    bench.sent.clear();
    bench.dispatcher.resume();
    bench.run();
    assert_eq!((bench.count(is_connect), bench.sent_rows()), (1, vec![1, 2]));
}

#[test]
fn who_is_paused_without_a_session_waits_for_nothing() {
    let mut bench = two_in_flight();
    bench.dispatcher.down(bench.session(), Ending::Refused);
    assert!(bench.run().is_some(), "the next session");
    bench.dispatcher.pause();
    assert_eq!(bench.run(), None);
}

#[test]
fn a_pause_that_becomes_a_stop_has_no_more_time_than_that() {
    for (politely, orders) in [(SECOND * 3, 2), (SECOND * 6, 1), (SECOND * 60, 1)] {
        let mut bench = two_in_flight();
        bench.dispatcher.pause();
        bench.run();
        bench.dispatcher.stop(politely, SECOND * 60);
        bench.run();
        bench.run();
        assert_eq!(bench.said.len(), orders, "{politely:?}: {:?}", bench.said);
    }
}

#[test]
fn words_about_another_session_and_second_words_change_nothing() {
    let mut bench = two_in_flight();
    let session = bench.session();
    bench.dispatcher.up(session, Limits { window: 1, bytes: 1 });
    assert_eq!(bench.dispatcher.sessions(), 1, "it stands already");
    for other in [session - 1, session + 1] {
        bench.dispatcher.down(other, Ending::Refused);
        assert!(matches!(bench.dispatcher.session(), Session::Up { limits: Limits::UNLIMITED, .. }));
    }
    bench.dispatcher.down(session, Ending::Unreachable);
    let down = bench.dispatcher.session().clone();
    assert!(matches!(down, Session::Down { .. }));
    bench.dispatcher.down(session, Ending::Refused);
    bench.dispatcher.up(session, Limits::UNLIMITED);
    assert_eq!((bench.dispatcher.session(), bench.dispatcher.was_refused()), (&down, false));
    // The next one has been asked for, and is not up by the word of the last one.
    bench.now += SECOND * 3_600;
    assert!(is_connect(&bench.dispatcher.next(bench.now)));
    bench.dispatcher.up(session, Limits::UNLIMITED);
    assert!(matches!(bench.dispatcher.session(), Session::Connecting { .. }));
}

/// A message that sessions ended on is sent alone once a session without it has lived for a while: once it shows that.
#[test]
fn a_sign_of_life_of_an_earlier_session_says_nothing_of_this_one() {
    let mut bench = Bench::new(vec![row(1, None, "t")]);
    // Three strikes, and once alone.
    for _ in 0..4 {
        while bench.sent.is_empty() {
            let until = bench.run();
            bench.wait(until);
        }
        bench.dispatcher.down(bench.session(), Ending::Unreachable);
        bench.sent.clear();
    }
    while !matches!(bench.dispatcher.session(), Session::Up { .. }) {
        let until = bench.run();
        bench.now = until.unwrap_or(bench.now);
    }
    bench.count(|_| true);
    bench.now += SECOND * 2;
    bench.run();
    assert_eq!((&bench.said[..], bench.sent.len()), (&[Action::Ping][..], 0));
    bench.dispatcher.alive(bench.session() - 1);
    bench.run();
    assert!(bench.sent.is_empty());
    bench.dispatcher.alive(bench.session());
    bench.run();
    assert_eq!(bench.sent_rows(), [1]);
}

#[test]
fn an_adapter_that_takes_nothing_at_a_time_is_given_one() {
    let mut bench = Bench::new(vec![row(1, None, "t"), row(2, None, "t")]);
    assert!(is_connect(&bench.dispatcher.next(bench.now)));
    bench.dispatcher.up(1, Limits { window: 0, bytes: usize::MAX });
    bench.run();
    assert_eq!(bench.sent_rows(), [1]);
}

#[test]
fn a_session_without_an_answer_is_given_up_when_its_time_is_over_and_not_before() {
    let mut bench = two_in_flight();
    let overdue = bench.dispatcher.rules.ack_timeout;
    let deadline = bench.run().expect("a deadline");
    assert!(deadline >= overdue && deadline < overdue + SECOND, "{deadline:?}");
    bench.now = deadline - MOMENT;
    bench.run();
    assert!(bench.said.is_empty());
    bench.now = deadline;
    assert_eq!(bench.dispatcher.next(bench.now), Action::Disconnect(deadline));
    assert!(matches!(bench.dispatcher.session(), Session::Down { .. }));
}
