//! What is decided and not yet written, through writes that stand and writes that do not.

use std::time::Duration;

use crate::forwarder::dispatcher::ledger::Ledger;
use crate::store::{Fate, Lane};

const NOW: Duration = Duration::from_secs(100);
const SECOND: Duration = Duration::from_secs(1);

fn held() -> Fate {
    Fate::Held { lane: Lane::Key("k".into()) }
}

fn waiting() -> Fate {
    Fate::Waiting { wait: SECOND, reason: String::new(), lane: None }
}

fn ids(ledger: &Ledger) -> Vec<i64> {
    ledger.entries().iter().map(|entry| entry.id).collect()
}

#[test]
fn what_is_decided_is_due_some_time_after_the_first_of_it() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.due(SECOND), None);
    ledger.push(NOW, 1, Fate::Sent, false);
    ledger.push(NOW + SECOND / 2, 2, Fate::Sent, false);
    assert_eq!(ledger.due(SECOND), Some(NOW + SECOND));
    ledger.take();
    ledger.written();
    assert_eq!(ledger.due(SECOND), None);
    ledger.push(NOW + SECOND * 5, 3, Fate::Sent, false);
    assert_eq!(ledger.due(SECOND), Some(NOW + SECOND * 6));
}

#[test]
fn after_failures_it_rests_twice_as_long_each_time_up_to_a_limit() {
    let mut ledger = Ledger::default();
    ledger.push(NOW, 1, Fate::Sent, false);
    let fail = |ledger: &mut Ledger| {
        let batch = ledger.take();
        ledger.put_back(NOW, batch, false);
        assert!(!ledger.may_write(ledger.not_before() - Duration::from_millis(1)));
        assert!(ledger.may_write(ledger.not_before()));
        assert_eq!(ledger.due(Duration::ZERO), Some(ledger.not_before()), "nothing is due while it rests");
        (ledger.not_before() - NOW).as_millis()
    };
    let rests: Vec<_> = (0..7).map(|_| fail(&mut ledger)).collect();
    assert_eq!(rests, [200, 400, 800, 1_600, 3_200, 3_200, 3_200]);
    ledger.written();
    assert_eq!(fail(&mut ledger), 200, "one write that stands, and it begins anew");
}

#[test]
fn where_others_write_it_rests_for_a_moment_however_often() {
    let mut ledger = Ledger::default();
    ledger.push(NOW, 1, Fate::Sent, false);
    for _ in 0..5 {
        let batch = ledger.take();
        ledger.put_back(NOW, batch, true);
        assert_eq!(ledger.not_before(), NOW + Duration::from_millis(100));
    }
    ledger.may_write_now(NOW);
    assert!(ledger.may_write(NOW));
    ledger.may_write_now(NOW + SECOND);
    assert!(ledger.may_write(NOW), "a time that has come stays so");
}

#[test]
fn what_could_not_be_written_comes_before_what_was_decided_since() {
    let mut ledger = Ledger::default();
    ledger.push(NOW, 1, Fate::Sent, false);
    ledger.push(NOW, 2, held(), false);
    let batch = ledger.take();
    assert!(ledger.is_empty());
    ledger.push(NOW, 2, Fate::Sent, true);
    ledger.put_back(NOW, batch, false);
    // A later word about the same row stands.
    assert_eq!((ids(&ledger), ledger.len()), (vec![1, 2, 2], 3));
}

/// The table's indexes of waiting and held rows are looked at only where they show what is.
#[test]
fn it_knows_in_what_the_table_differs_until_that_is_written() {
    let mut ledger = Ledger::default();
    let differs = |ledger: &Ledger| (ledger.has_marks(), ledger.has_stale(), ledger.hidden());
    assert_eq!(differs(&ledger), (false, false, 0));
    ledger.push(NOW, 1, Fate::Sent, false);
    assert_eq!(differs(&ledger), (false, false, 0), "a new row that was sent stands in no index");
    ledger.push(NOW, 2, held(), false);
    ledger.push(NOW, 3, waiting(), false);
    assert_eq!(differs(&ledger), (true, false, 2), "two that wait, and the table does not know");
    ledger.push(NOW, 4, Fate::Sent, true);
    assert_eq!(differs(&ledger), (true, true, 1), "one that the table takes for waiting");
    ledger.push(NOW, 5, waiting(), true);
    assert_eq!(differs(&ledger), (true, true, 1), "one that waits again");

    let batch = ledger.take();
    assert_eq!(differs(&ledger), (false, false, 0));
    ledger.push(NOW, 6, held(), false);
    ledger.push(NOW, 7, Fate::Sent, true);
    ledger.push(NOW, 8, Fate::Sent, true);
    assert_eq!(differs(&ledger), (true, true, -1));
    ledger.put_back(NOW, batch, false);
    assert_eq!(differs(&ledger), (true, true, 0), "both, where the first could not be written");
    ledger.take();
    assert_eq!(differs(&ledger), (false, false, 0), "nothing of it is counted twice");
}

#[test]
fn one_that_could_not_be_written_differs_by_itself() {
    for (fate, exceptional, differs) in [(held(), false, (true, false, 1)), (Fate::Sent, true, (false, true, -1))] {
        let mut ledger = Ledger::default();
        ledger.push(NOW, 1, fate, exceptional);
        let batch = ledger.take();
        ledger.put_back(NOW, batch, true);
        assert_eq!((ledger.has_marks(), ledger.has_stale(), ledger.hidden()), differs);
    }
}
