//! Looking for faults, and mending what can be mended, beside a forwarder that goes on.

use std::time::Duration;

use edge_outbox::broker::InProcess;
use edge_outbox::broker::in_process::Unsubscribed;
use edge_outbox::{Error, Inspector, Outbox, Settings};

use crate::device::{Device, SOON, enqueue, numbered, quick, value, wait_for_stats};

fn acknowledges_everything() -> InProcess {
    InProcess::builder().unsubscribed(Unsubscribed::Acknowledge).build()
}

fn inspector(device: &Device) -> Inspector {
    Inspector::open(device.database(), SOON).unwrap()
}

#[test]
fn all_failed_messages_are_discarded_while_others_are_sent() {
    let device = Device::new();
    let writer = device.open_writer();
    enqueue(&writer, numbered("t", 0..2_000));
    device.sql().execute_batch("UPDATE outbox SET status = 'FAILED' WHERE id % 2 = 1").unwrap();
    let outbox = device.open(acknowledges_everything());
    assert_eq!(writer.discard_all().unwrap(), 1_000);
    assert_eq!(writer.discard_all().unwrap(), 0);
    outbox.flush(SOON).unwrap();
    wait_for_stats(&outbox, "the others are sent", |stats| stats.pending == 0 && stats.failed == 0);
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []), 1_000);
    assert_eq!(inspector(&device).check().unwrap().findings, []);
}

#[test]
fn purging_goes_on_beside_a_forwarder_whose_own_goes_on_too() {
    let device = Device::new();
    let day = Duration::from_secs(24 * 3600);
    let outbox = device.open_with(Settings { retention: day, ..quick() }, acknowledges_everything());
    let other = device.open_writer();
    let mut purged = 0;
    for round in 0..10 {
        enqueue(&outbox, numbered("t", 0..300));
        // In between the forwarder settles, and looks for what is old.
        purged += other.purge(Duration::ZERO).unwrap();
        outbox.flush(SOON).unwrap();
        assert_eq!(other.purge(Duration::from_secs(3600)).unwrap(), 0, "round {round}: too young");
    }
    wait_for_stats(&outbox, "it is written down", |stats| stats.sent == 3_000);
    purged += other.purge(Duration::ZERO).unwrap();
    assert_eq!(purged, 2_999, "all but the newest");
    outbox.shutdown(SOON).unwrap();

    let outbox = device.open_with(Settings { retention: Duration::ZERO, ..quick() }, acknowledges_everything());
    enqueue(&outbox, numbered("t", 0..1_000));
    outbox.flush(SOON).unwrap();
    enqueue(&outbox, numbered("t", 0..1_000));
    outbox.flush(SOON).unwrap();
    wait_for_stats(&outbox, "the forwarder purges by itself", |_| {
        value::<i64>(&device.sql(), "SELECT count(*) FROM outbox", []) <= 1_100
    });
    assert_eq!(inspector(&device).check().unwrap().findings, []);
}

#[test]
fn what_was_dropped_is_put_back_while_a_forwarder_runs_and_holds_again() {
    let device = Device::new();
    let outbox = device.open(acknowledges_everything());
    enqueue(&outbox, numbered("t", 0..10));
    outbox.flush(SOON).unwrap();
    device.sql().execute_batch("DROP TRIGGER outbox_keeps_newest; DROP INDEX outbox_held").unwrap();
    let checked = inspector(&device).check().unwrap();
    let found: Vec<_> = checked.findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(found, ["the index outbox_held is missing", "the trigger outbox_keeps_newest is missing"]);
    assert_eq!(outbox.restore_schema().unwrap(), ["outbox_held", "outbox_keeps_newest"]);
    assert_eq!(outbox.restore_schema().unwrap(), Vec::<String>::new());
    assert_eq!(inspector(&device).check().unwrap().findings, []);
    device.sql().execute_batch("DELETE FROM outbox").unwrap();
    assert_eq!(value::<i64>(&device.sql(), "SELECT id FROM outbox", []), 10);
    enqueue(&outbox, numbered("t", 0..10));
    outbox.flush(SOON).unwrap();
}

#[test]
fn where_everything_is_in_place_nobody_is_waited_for() {
    let device = Device::new();
    let settings = Settings { busy_timeout: Duration::from_millis(50), ..quick() };
    let outbox = Outbox::builder(device.database()).settings(settings).open().unwrap();
    let other = device.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(outbox.restore_schema().unwrap(), Vec::<String>::new());
    other.execute_batch("COMMIT; DROP TRIGGER outbox_edited; BEGIN IMMEDIATE").unwrap();
    assert!(matches!(outbox.restore_schema(), Err(Error::Busy(_))));
}

#[test]
fn a_name_that_somebody_else_took_is_told_and_left_alone() {
    let device = Device::new();
    let outbox = device.open_writer();
    device.sql().execute_batch("DROP TRIGGER outbox_edited; CREATE TABLE outbox_edited (mine)").unwrap();
    let error = outbox.restore_schema().unwrap_err();
    assert!(matches!(&error, Error::ForeignTable { name } if name == "outbox_edited"), "{error:?}");
    let checked = inspector(&device).check().unwrap();
    assert!(checked.findings[0].what.contains("something else has its name"), "{checked:?}");
}
