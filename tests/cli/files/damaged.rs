//! Files that a card gave back other than they were written.

use std::fs;

use edge_outbox::rusqlite::Connection;
use serde_json::Value;

use super::{ALL, Case, Creates, Forwards, Looks, Writes, all_refused, commands, fill};
use crate::device::{Device, enqueue, numbered, value};
use crate::mosquitto::Mosquitto;
use crate::tool::{Ran, command};

const PAGE: usize = 4096;

/// Bytes that are nothing, the same each time.
fn noise(bytes: &mut [u8]) {
    let mut state: u32 = 0x9e37_79b9;
    for byte in bytes {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *byte = (state >> 24) as u8;
    }
}

/// A device of some pages, and its file as `harm` leaves it.
fn harmed(harm: impl FnOnce(&Connection, &mut Vec<u8>)) -> Device {
    let device = Device::new();
    fill(&device);
    enqueue(&device.open_writer(), numbered("t", 0..500));
    let sql = device.sql();
    sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let mut bytes = fs::read(device.database()).unwrap();
    harm(&sql, &mut bytes);
    drop(sql);
    fs::write(device.database(), bytes).unwrap();
    device
}

/// Where the root of the table stands.
fn root(sql: &Connection) -> usize {
    let page: i64 = value(sql, "SELECT rootpage FROM sqlite_schema WHERE name = 'outbox'", []);
    (page as usize - 1) * PAGE
}

#[test]
fn a_first_page_that_is_noise_is_told() {
    let device = harmed(|_, bytes| noise(&mut bytes[..PAGE]));
    all_refused(&device, &ALL, &["is not a SQLite database", "its first page is damaged", ".recover"]);
    told_of_files(&device);
    let device = harmed(|_, bytes| noise(&mut bytes[100..PAGE]));
    told_of_files(&device);
    all_refused(&device, &ALL, &["the database is damaged", "keep a copy", "docs/reliability.md"]);
}

/// What `status --json` tells of a database that is damaged.
#[track_caller]
fn told_of_files(device: &Device) -> Value {
    let told = Ran::from(command(["status", "--json"]).arg(device.database()).output().unwrap());
    let object: Value = serde_json::from_slice(&told.out).unwrap();
    assert_eq!(told.code, Some(1));
    assert!(object["error"].as_str().unwrap().contains("damaged"), "{object}");
    assert!(object["database_bytes"].as_u64() > Some(0), "{object}");
    assert_eq!(object["forwarder"]["state"], "none", "{object}");
    object
}

#[test]
fn a_file_that_ends_too_early_is_told() {
    let device = harmed(|_, bytes| bytes.truncate(bytes.len() / 2 / PAGE * PAGE));
    all_refused(&device, &ALL, &["the database is damaged", "keep a copy", "docs/reliability.md"]);
}

/// What does not need the rows goes well, what does tells of the damage, and `check` of where it is.
#[track_caller]
fn told_by_all(device: &Device, checked: &str) {
    let database = device.database();
    let bytes = fs::read(&database).unwrap();
    for mut case in commands(&database, &[Creates, Writes, Looks]) {
        match case.line.trim_end() {
            "init" => case.goes_well(),
            "check" => {
                let ran = case.run();
                let said = String::from_utf8(ran.out).unwrap();
                assert_eq!((ran.code, &*ran.err), (Some(1), ""), "{said}");
                assert!(said.contains(checked) && said.contains("keep a copy of it"), "{said}");
            }
            _ => case.refused(&database, &["the database is damaged", "keep a copy", "edge-outbox check"]),
        }
        assert!(fs::read(&database).unwrap() == bytes, "{}: the file is another", case.line);
    }
}

#[test]
fn a_damaged_table_is_told_and_nothing_is_called_drained() {
    let device = harmed(|sql, bytes| noise(&mut bytes[root(sql)..][..PAGE]));
    told_by_all(&device, "no row can be read");
    let object = told_of_files(&device);
    assert_eq!((&object["unreadable"], &object["pending"]), (&0.into(), &Value::Null), "{object}");
    let mut drain = drain(&device);
    drain.command.args(["--timeout", "1"]);
    drain.refused(
        &device.database(),
        &["drained of what can be read, but the database is damaged", "edge-outbox check"],
    );
}

#[test]
fn a_damaged_page_of_the_table_is_told_and_what_is_behind_it_is_pending() {
    let device = harmed(|sql, bytes| {
        let root = root(sql);
        assert_eq!(bytes[root], 5, "pages stand below it");
        let cell = root + usize::from(u16::from_be_bytes([bytes[root + 12], bytes[root + 13]]));
        let first = u32::from_be_bytes(bytes[cell..][..4].try_into().unwrap()) as usize;
        noise(&mut bytes[(first - 1) * PAGE..][..PAGE]);
    });
    told_by_all(&device, "what there is of rows 1 to ");
    let mut list = command(["list", "--newest", "--json", "--limit", "0"]);
    let told = Ran::from(list.arg(device.database()).output().unwrap());
    let last: Value =
        serde_json::from_slice(told.out.trim_ascii_end().rsplit(|b| *b == b'\n').next().unwrap()).unwrap();
    let (row, sql) = (last["row"].as_i64().unwrap(), device.sql());
    let readable = "SELECT count(*) FROM (SELECT id, payload FROM outbox WHERE id >= ?1)";
    assert_eq!(value::<i64>(&sql, readable, [row]), 506 - row, "all that can be read is listed");
    assert!(sql.query_row("SELECT payload FROM outbox WHERE id = ?1", [row - 1], |_| Ok(())).is_err());
    drop(sql);
    assert!(told.refused(1).contains(&format!("It came back to row {row}. To read from the other end: without")));
    // With no broker there is no end to it.
    let mut drain = drain(&device);
    drain.command.args(["--timeout", "1"]);
    let ran = drain.run();
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("messages pending") && !ran.err.contains(" 0 messages"), "{}", ran.err);

    let mosquitto = Mosquitto::start();
    let mut drain = command(["forward", "--drain", "--timeout=60", "--to", &mosquitto.url()]);
    let told = Ran::from(drain.arg(device.database()).output().unwrap()).refused(1);
    assert!(told.contains("drained of what can be read, but the database is damaged"), "{told}");
    assert!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE id > 400 AND status = 'SENT'", []) > 100);
}

fn drain(device: &Device) -> Case {
    commands(&device.database(), &[Forwards]).swap_remove(1)
}
