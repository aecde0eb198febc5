//! `init`, `retry`, `discard`, `purge` and `check`.

mod asking;
mod check;

use std::fs;

use edge_outbox::rusqlite::Connection;

use crate::device::{Device, enqueue, numbered, status_of, value};
use crate::tool::{Ran, run};

/// The tool about this database.
fn tool(command: &str, device: &Device, more: &[&str]) -> Ran {
    let database = device.database();
    run([&[command, database.to_str().unwrap()], more].concat())
}

/// Five messages; 1 is SENT, 2, 3 and 5 are FAILED, 4 is PENDING.
fn some() -> Device {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("t", 0..5));
    device
        .sql()
        .execute_batch(
            "UPDATE outbox SET status = 'SENT' WHERE id = 1; UPDATE outbox SET status = 'FAILED', last_error = 'no'
             WHERE id IN (2, 3, 5)",
        )
        .unwrap();
    device
}

fn statuses(device: &Device) -> String {
    let sql = "SELECT group_concat(id || substr(status, 1, 1), ' ') FROM outbox";
    value::<Option<String>>(&device.sql(), sql, []).unwrap_or_default()
}

fn whole_id(device: &Device, row: i64) -> String {
    value(&device.sql(), "SELECT printf('%d-%016x', id, nonce) FROM outbox WHERE id = ?1", [row])
}

#[test]
fn init_says_whether_it_created_the_file_or_the_outbox_or_found_everything_in_place() {
    let device = Device::new();
    let said = tool("init", &device, &[]).ok();
    assert!(said.contains("created, with an outbox in it (schema version 1)"), "{said}");
    let said = tool("init", &device, &[]).ok();
    assert!(said.contains("everything is in place (schema version 1)"), "{said}");
    let names: Vec<_> = fs::read_dir(device.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("reserve")), "{names:?}");

    let other = Device::new();
    other.sql().execute_batch("CREATE TABLE readings (value); INSERT INTO readings VALUES (21.5)").unwrap();
    let said = tool("init", &other, &[]).ok();
    assert!(said.contains("the outbox is created"), "{said}");
    assert_eq!(value::<f64>(&other.sql(), "SELECT value FROM readings", []), 21.5);
    tool("check", &other, &[]).ok();
}

#[test]
fn init_puts_back_what_somebody_dropped_and_says_what() {
    let device = some();
    device.sql().execute_batch("DROP TRIGGER outbox_edited; DROP INDEX outbox_failed").unwrap();
    let said = tool("init", &device, &[]).ok();
    assert!(said.contains("outbox_edited is put back") && said.contains("outbox_failed is put back"), "{said}");
    assert!(said.contains("edge-outbox check"), "{said}");
    assert_eq!(statuses(&device), "1S 2F 3F 4P 5F");
    assert!(tool("check", &device, &[]).ok().starts_with("no fault found in 5 rows (3 FAILED)"));
}

#[test]
fn init_touches_nothing_of_others() {
    let device = Device::new();
    device.sql().execute_batch("CREATE TABLE outbox (mine)").unwrap();
    let said = tool("init", &device, &[]).refused(1);
    assert!(said.contains("device.db") && said.contains("`outbox` that is not ours"), "{said}");
    fs::write(device.database(), "This is no database, but a letter to somebody.".repeat(40)).unwrap();
    let said = tool("init", &device, &[]).refused(1);
    assert!(said.contains("is not a SQLite database"), "{said}");
    let nowhere = device.folder().join("no/such/folder/device.db");
    let said = run(["init".as_ref(), nowhere.as_os_str()]).refused(1);
    assert!(said.contains("no/such/folder"), "{said}");
}

#[test]
fn messages_are_retried_one_by_one_and_all_that_is_wrong_is_told() {
    let device = some();
    let third = whole_id(&device, 3);
    let run = tool("retry", &device, &["1", "2", "2", &third, "4", "99", "5-00000000000000aa"]);
    assert_eq!(String::from_utf8_lossy(&run.out), "made 2 failed messages pending again\n");
    let said = run.refused(1);
    for words in [
        "row 1 is sent, not failed",
        "device.db: row 4 is pending, not failed",
        "row 99 is not there",
        "5-00000000000000aa is not there: row 5 is another message",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(said.lines().count(), 4, "{said}");
    assert_eq!(statuses(&device), "1S 2P 3P 4P 5F");
    assert_eq!(tool("retry", &device, &["--all"]).ok(), "made 1 failed message pending again\n");
    assert_eq!(statuses(&device), "1S 2P 3P 4P 5P");
    assert_eq!(tool("retry", &device, &["--all"]).ok(), "made 0 failed messages pending again\n");
    tool("retry", &device, &[]).refused(2);
}

#[test]
fn messages_are_discarded_one_by_one_and_all_that_is_wrong_is_told() {
    let device = some();
    let third = whole_id(&device, 3);
    let run = tool("discard", &device, &["--yes", "1", "2", &third, "2-00000000000000aa", "7"]);
    assert_eq!(String::from_utf8_lossy(&run.out), "deleted 2 failed messages\n");
    let said = run.refused(1);
    for words in ["row 1 is sent, not failed", "2-00000000000000aa is not there", "row 7 is not there"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(statuses(&device), "1S 4P 5F");
    assert_eq!(tool("discard", &device, &["--yes", "--all-failed"]).ok(), "deleted 1 failed message\n");
    assert_eq!(statuses(&device), "1S 4P 5S", "the newest row stays, emptied");
}

#[test]
fn what_the_application_refers_to_is_not_discarded_nor_purged_and_the_others_are() {
    let device = some();
    device
        .sql()
        .execute_batch(
            "CREATE TABLE receipts (message INTEGER REFERENCES outbox (id)); INSERT INTO receipts VALUES (1), (2)",
        )
        .unwrap();
    let said = tool("discard", &device, &["--yes", "2", "3"]).refused(1);
    assert!(said.contains("row 2 stays: a table of the application's refers to it"), "{said}");
    let run = tool("discard", &device, &["--yes", "--all-failed"]);
    assert!(run.err.contains("1 failed message stays") || run.err.contains("stay"), "{run:?}");
    assert_eq!(run.ok(), "deleted 1 failed message\n");
    tool("purge", &device, &[]).ok();
    assert_eq!(statuses(&device), "1S 2F 4P 5S");
}

#[test]
fn sent_messages_are_purged_by_their_age_and_the_words_say_how_many() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("t", 0..3_000));
    let sql = device.sql();
    sql.execute_batch("UPDATE outbox SET status = 'SENT', status_at = status_at - 864000000 * (id <= 2000)").unwrap();
    let said = tool("purge", &device, &["--older-than", "7d"]).ok();
    assert!(said.starts_with("deleted 2,000 sent messages\n") && said.contains("VACUUM"), "{said}");
    let said = tool("purge", &device, &["--older-than", "7d"]).ok();
    assert!(said.starts_with("no sent message to delete"), "{said}");
    let said = tool("purge", &device, &[]).ok();
    assert!(said.starts_with("deleted 999 sent messages\n"), "{said}");
    assert_eq!(statuses(&device), "3000S");
    tool("purge", &device, &["--older-than", "soon"]).refused(2);
}

#[test]
fn nothing_is_mended_where_there_is_no_outbox_or_somebody_keeps_it_locked() {
    for (command, more) in
        [("retry", &["--all"][..]), ("discard", &["--all-failed", "--yes"]), ("purge", &[]), ("check", &[])]
    {
        let device = Device::new();
        let said = tool(command, &device, more).refused(1);
        assert!(said.contains("device.db does not exist") && said.contains("edge-outbox init"), "{command}: {said}");
        assert!(!device.database().exists(), "{command} created it");
        device.sql().execute_batch("CREATE TABLE mine (x)").unwrap();
        let said = tool(command, &device, more).refused(1);
        assert!(said.contains("without an outbox"), "{command}: {said}");
    }
    let device = some();
    let sql = device.sql();
    sql.execute_batch("BEGIN IMMEDIATE").unwrap();
    for (command, more) in [("retry", &["2"][..]), ("discard", &["--yes", "2"]), ("purge", &[])] {
        let said = tool(command, &device, &[more, &["--busy-timeout", "1s"]].concat()).refused(1);
        assert!(said.contains("locked"), "{command}: {said}");
    }
    sql.execute_batch("ROLLBACK").unwrap();
    assert_eq!(status_of(&Connection::open(device.database()).unwrap(), 2), "FAILED");
}
