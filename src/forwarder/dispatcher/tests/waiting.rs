//! Rows that wait by themselves, and the rounds in which the table is searched for more of them.

use std::time::Duration;

use super::row;
use crate::forwarder::dispatcher::waiting::Waiting;
use crate::store::Query;

const SECOND: Duration = Duration::from_secs(1);

fn after(waiting: &mut Waiting) -> i64 {
    match waiting.query(10) {
        Query::Again { after, rows: 10 } => after,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_row_whose_wait_was_over_first_goes_first_and_none_before_its_time() {
    let mut waiting = Waiting::new();
    waiting.insert(row(1, None, "t"), SECOND * 2);
    waiting.insert(row(2, None, "t"), SECOND);
    let due = |waiting: &Waiting, now| waiting.due(now).map(|row| row.id);
    assert_eq!((waiting.len(), waiting.next_due()), (2, Some(SECOND)));
    assert_eq!(due(&waiting, SECOND - Duration::from_nanos(1)), None);
    assert_eq!(due(&waiting, SECOND), Some(2));
    assert_eq!(due(&waiting, SECOND * 3), Some(2));
    waiting.remove(2);
    assert!(!waiting.contains(2) && waiting.contains(1));
    assert_eq!(due(&waiting, SECOND * 3), Some(1));
    waiting.remove(1);
    assert_eq!((waiting.len(), waiting.timers(), waiting.next_due()), (0, 0, None));
}

#[test]
fn a_round_goes_on_where_the_look_before_it_ended() {
    let mut waiting = Waiting::new();
    assert_eq!(waiting.next_look(), Some(Duration::ZERO), "at the start none is known");
    assert_eq!(after(&mut waiting), i64::MIN, "a row that somebody gave a negative id is among them");
    waiting.searched_to(7);
    assert_eq!(after(&mut waiting), 7);
    waiting.look_not_before(SECOND);
    assert_eq!(waiting.next_look(), Some(SECOND));
    waiting.searched();
    assert_eq!(waiting.next_look(), None, "the table was searched to its end, and nothing changed");
}

#[test]
fn what_changes_within_a_round_is_looked_for_in_another_one() {
    let mut waiting = Waiting::new();
    after(&mut waiting);
    waiting.searched_to(7);
    waiting.look_anew();
    after(&mut waiting);
    waiting.searched();
    assert!(waiting.next_look().is_some(), "it may stand before where the round was");
    assert_eq!(after(&mut waiting), i64::MIN);
    waiting.searched();
    assert_eq!(waiting.next_look(), None);
}
