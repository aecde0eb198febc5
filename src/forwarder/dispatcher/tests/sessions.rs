//! When the next session begins, and when one is given up.

use std::time::Duration;

use crate::broker::Limits;
use crate::forwarder::dispatcher::session::Sessions;
use crate::forwarder::dispatcher::{Dice, Ending, Session};
use crate::settings::Backoff;

const SECOND: Duration = Duration::from_secs(1);
const NOW: Duration = Duration::from_secs(1_000);
const BACKOFF: Backoff = Backoff { first: SECOND, longest: Duration::from_secs(64) };

/// How long it waits after a session that was in `state` and ended at `NOW`; nothing is left to chance.
fn wait_after(sessions: &mut Sessions, state: Session, ending: Ending) -> Duration {
    sessions.begin(NOW - SECOND * 50);
    sessions.state = state;
    sessions.end(NOW, ending, false, BACKOFF, &mut Dice::none());
    match sessions.state {
        Session::Down { until } => until - NOW,
        ref other => panic!("{other:?}"),
    }
}

fn up(since: Duration) -> Session {
    Session::Up { since, limits: Limits::UNLIMITED }
}

#[test]
fn each_failure_doubles_the_wait_until_a_session_stood_for_a_while() {
    let mut sessions = Sessions::new();
    let mut waits = |state: Session| wait_after(&mut sessions, state, Ending::Unreachable).as_secs();
    let connecting = || Session::Connecting { since: NOW };
    assert_eq!([(); 8].map(|()| waits(connecting())), [1, 2, 4, 8, 16, 32, 64, 64]);
    assert_eq!(waits(up(NOW - Duration::from_millis(9_999))), 64, "it did not stand for long");
    assert_eq!(waits(up(NOW - SECOND * 10)), 1);
    assert_eq!(waits(connecting()), 2);
}

#[test]
fn a_session_that_settled_something_begins_the_waits_anew() {
    let mut sessions = Sessions::new();
    for _ in 0..5 {
        wait_after(&mut sessions, Session::Connecting { since: NOW }, Ending::Unreachable);
    }
    sessions.proven();
    assert_eq!(wait_after(&mut sessions, up(NOW), Ending::Unreachable), SECOND);
}

#[test]
fn a_session_that_was_to_end_is_followed_by_the_next_at_once_and_one_that_was_refused_is_not() {
    let mut sessions = Sessions::new();
    assert_eq!(wait_after(&mut sessions, Session::Closing { until: NOW }, Ending::Unreachable), Duration::ZERO);
    assert!(!sessions.refused);
    assert_eq!(wait_after(&mut sessions, up(NOW), Ending::Refused), BACKOFF.longest);
    assert!(sessions.refused);
    wait_after(&mut sessions, up(NOW), Ending::Recycled);
    assert!(!sessions.refused);
}

#[test]
fn an_adapter_that_says_nothing_is_given_up_in_the_end() {
    let mut sessions = Sessions::new();
    assert_eq!(sessions.deadline(), Some(Duration::ZERO), "the first session may begin at once");
    assert_eq!((sessions.begin(NOW), sessions.limits()), (1, None));
    assert_eq!(sessions.deadline(), Some(NOW + SECOND * 120));
    sessions.state = up(NOW);
    assert_eq!((sessions.deadline(), sessions.limits()), (None, Some(Limits::UNLIMITED)));
    sessions.state = Session::Closing { until: NOW };
    assert_eq!(sessions.deadline(), Some(NOW + SECOND / 2), "half a second beyond what it was given");
    sessions.state = Session::Down { until: NOW };
    assert_eq!((sessions.begin(NOW), sessions.number), (2, 2));
}
