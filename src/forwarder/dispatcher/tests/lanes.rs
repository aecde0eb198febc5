//! Lanes: their timers, their rows, and room for one more.

use std::sync::Arc;
use std::time::Duration;

use super::row;
use crate::forwarder::dispatcher::lanes::{Lanes, Phase};
use crate::store::Lane;

const SECOND: Duration = Duration::from_secs(1);

fn lane(key: &str) -> Lane {
    Lane::Key(key.into())
}

fn blocked(topic: &str) -> Phase {
    Phase::Blocked(Arc::from(topic))
}

#[test]
fn a_lane_is_counted_where_it_stands_and_nowhere_else() {
    let mut lanes = Lanes::new();
    let stands =
        |lanes: &Lanes| (lanes.next_due().map(|(at, _)| at), lanes.blocked(), lanes.active().len(), lanes.len());
    lanes.set(&lane("a"), Phase::Waiting(SECOND));
    assert_eq!(stands(&lanes), (Some(SECOND), 0, 0, 1));
    lanes.set(&lane("a"), blocked("t"));
    assert_eq!(stands(&lanes), (None, 1, 0, 1));
    lanes.set(&lane("a"), Phase::Probing(None));
    assert_eq!(stands(&lanes), (None, 0, 1, 1));
    lanes.set(&lane("a"), Phase::Draining);
    assert_eq!(stands(&lanes), (None, 0, 1, 1));
    lanes.set(&lane("b"), Phase::Waiting(SECOND * 2));
    lanes.set(&lane("c"), Phase::Waiting(SECOND));
    assert_eq!(lanes.next_due(), Some((SECOND, &lane("c"))));
    lanes.remove(&lane("a"));
    lanes.remove(&lane("c"));
    assert_eq!(stands(&lanes), (Some(SECOND * 2), 0, 0, 1));
}

#[test]
fn rows_that_were_read_stay_while_a_lane_is_emptied_and_not_while_it_waits() {
    let mut lanes = Lanes::new();
    let a = lane("a");
    let read = |lanes: &Lanes| {
        let state = lanes.get(&lane("a")).unwrap();
        (state.rows.iter().map(|row| row.id).collect::<Vec<_>>(), state.read_to)
    };
    lanes.set(&a, Phase::Probing(None));
    lanes.fill(&a, vec![row(1, Some("a"), "t"), row(2, Some("a"), "t")], 2);
    lanes.fill(&a, vec![row(3, Some("a"), "t")], 4);
    assert_eq!(lanes.pop_row(&a).map(|row| row.id), Some(1));
    for phase in [Phase::Probing(Some(1)), Phase::Draining] {
        lanes.set(&a, phase);
        assert_eq!(read(&lanes), (vec![2, 3], 4));
    }
    lanes.read_anew(&a);
    assert_eq!(read(&lanes), (vec![], 0), "one was marked in front of them");
    for phase in [Phase::Waiting(SECOND), blocked("t"), Phase::Probing(None)] {
        lanes.set(&a, Phase::Draining);
        lanes.fill(&a, vec![row(2, Some("a"), "t")], 2);
        lanes.set(&a, phase);
        assert_eq!(read(&lanes), (vec![], 0));
    }
}

#[test]
fn a_lane_is_found_by_its_probe_and_by_the_topic_that_it_waits_for() {
    let mut lanes = Lanes::new();
    let topic = Arc::from("t");
    lanes.set(&lane("a"), Phase::Probing(Some(7)));
    lanes.set(&lane("b"), Phase::Probing(Some(8)));
    assert_eq!(lanes.probed_by(7), [lane("a")]);
    assert!(lanes.are_probed_by(8) && !lanes.are_probed_by(9));
    assert_eq!(lanes.blocked_on(&topic), None);
    lanes.set(&lane("a"), blocked("t"));
    lanes.set(&lane("b"), blocked("other"));
    lanes.set(&lane("c"), blocked("t"));
    assert!(!lanes.are_probed_by(7));
    assert_eq!(lanes.blocked_on(&topic), Some(lane("a")));
    assert_eq!(lanes.all_blocked_on(&topic), [lane("a"), lane("c")]);
}

#[test]
fn for_one_more_a_quarter_of_the_lanes_goes_dormant_closed_ones_first_then_those_that_wait_longest() {
    let mut lanes = Lanes::new();
    lanes.dormant.any = false;
    for (key, phase) in [
        ("a", Phase::Draining),
        ("b", Phase::Probing(Some(1))),
        ("c", Phase::Waiting(SECOND)),
        ("d", Phase::Waiting(SECOND * 3)),
        ("e", blocked("t")),
        ("f", Phase::Waiting(SECOND * 2)),
        ("g", Phase::Probing(None)),
        ("h", Phase::Draining),
    ] {
        lanes.set(&lane(key), phase);
    }
    let known = |lanes: &Lanes| ["a", "b", "c", "d", "e", "f", "g", "h"].map(|key| lanes.get(&lane(key)).is_some());
    assert!(!lanes.make_room(9) && !lanes.dormant.any, "there is room for one");
    assert!(lanes.make_room(8));
    assert!(lanes.dormant.any && lanes.dormant.left, "the table has to be searched for them");
    assert_eq!(known(&lanes), [true, true, true, false, false, true, true, true]);
    assert_eq!((lanes.blocked(), lanes.next_due().map(|(at, _)| at)), (0, Some(SECOND)));
    assert!(lanes.make_room(3), "one at least");
    assert_eq!(known(&lanes), [true, true, true, false, false, false, true, true]);
}
