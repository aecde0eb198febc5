//! Keys that are busy, with strict order.

use super::row;
use crate::forwarder::dispatcher::busy::BusyKeys;
use crate::settings::Ordering;

#[test]
fn a_key_is_busy_until_the_last_of_its_messages_is_settled() {
    let (first, second, other) = (row(1, Some("k"), "t"), row(2, Some("k"), "t"), row(3, Some("other"), "t"));
    let mut busy = BusyKeys::new(Ordering::Strict);
    busy.occupy(&first);
    busy.occupy(&second);
    assert!(busy.contain(&first) && !busy.contain(&other));
    busy.release(&first);
    assert!(busy.contain(&first));
    busy.release(&other);
    busy.release(&second);
    assert!(!busy.contain(&first));
    assert_eq!(busy.len(), 0);
}

#[test]
fn no_key_is_busy_with_other_orders_and_no_message_without_a_key_ever() {
    let (keyed, plain) = (row(1, Some("k"), "t"), row(2, None, "t"));
    let mut lane = BusyKeys::new(Ordering::default());
    lane.occupy(&keyed);
    assert!(!lane.contain(&keyed));
    let mut strict = BusyKeys::new(Ordering::Strict);
    strict.occupy(&plain);
    assert!(!strict.contain(&plain));
}
