//! What tests/it/hostile.rs found by chance, one by one.

use super::{Device, Fate, MAX_PAYLOAD, NOW, batch, failed};
use crate::store::{Batch, Status, get};

fn again(device: &Device) -> Vec<i64> {
    device.store.read_again(i64::MIN, 100).unwrap().iter().map(|row| row.id).collect()
}

#[test]
fn a_row_held_by_something_that_stands_before_every_lane_is_released() {
    for held_by in ["5", "-1.5", "''", "x''", "-9e999", "char(0)"] {
        let device = Device::new();
        device.put_many(3);
        let device = device.force(&format!("UPDATE outbox SET held_by = {held_by} WHERE id = 2"));
        assert_eq!(device.store.read_lanes(None, 10).unwrap(), [], "{held_by}");
        assert_eq!(again(&device), [2], "{held_by}");
    }
}

#[test]
fn a_row_that_cannot_be_released_is_parked_and_its_like_are_released() {
    let device = Device::new();
    device.put_many(4);
    let device = device.force("UPDATE outbox SET held_by = 'x'; UPDATE outbox SET qos = 'x' WHERE id = 2");
    assert_eq!(device.store.read_lanes(None, 10).unwrap(), []);
    assert_eq!(again(&device), [1, 3, 4]);
    assert_eq!(get(&device.app, 2, MAX_PAYLOAD).unwrap().unwrap().status, Some(Status::Failed));
}

#[test]
fn the_largest_barrier_there_is_does_not_stand_in_the_way_of_a_synced_commit() {
    let mut device = Device::new();
    device.put_many(2);
    device.sql("UPDATE outbox_state SET barrier = 9223372036854775807");
    let synced = Batch { synced: true, ..batch(&[(1, Fate::Sent)]) };
    device.store.settle(&synced, NOW, None).unwrap();
    assert_eq!(device.number("SELECT barrier FROM outbox_state"), 1);
}

#[test]
fn a_settled_row_whose_status_was_overwritten_is_found_wherever_the_position_stands() {
    let mut device = Device::new();
    device.put_many(4);
    device.settle(NOW, &[(1, Fate::Sent), (2, failed("no")), (3, Fate::Sent)]);
    device.sql(
        "PRAGMA ignore_check_constraints = ON;
         UPDATE outbox SET status = 'SEND' WHERE id = 1;
         UPDATE outbox SET status = 'nonsense', attempts = 0 WHERE id = 2;",
    );
    assert_eq!(again(&device), [1, 2]);
}

#[test]
fn a_settled_row_that_is_said_to_be_held_is_nobodys_lane() {
    let mut device = Device::new();
    device.put_many(2);
    device.settle(NOW, &[(1, Fate::Sent)]);
    device.sql("UPDATE outbox SET held_by = 'key a' WHERE id = 1");
    assert_eq!(device.held_count(), 0);
    assert!(!crate::store::pending_upto(&device.app, 1).unwrap());
}

#[test]
fn rows_with_ids_that_the_table_never_gives_are_found() {
    let device = Device::new();
    device.put_many(2);
    let device = device.force(
        "DROP TRIGGER outbox_id_next;
         INSERT INTO outbox (id, topic, payload) VALUES (-9223372036854775808, 't', 'p'), (0, 't', 'p');",
    );
    assert_eq!(device.store.misplaced().unwrap(), [i64::MIN, 0]);
}
