//! What anybody wrote into the table, or a card made of it.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use edge_outbox::rusqlite::params;
use edge_outbox::{Message, Outbox};
use serde_json::Value;

use super::{look, objects};
use crate::device::{Device, enqueue, numbered, quick, value};
use crate::tool::run;

/// Clears the screen, sets the title, the same by C1, and turns the text around.
const EVIL: &str = "evil\x1b[2J\x1b]0;title\x07\u{9b}2J\r\u{7f}\u{202e}\nstatus  sent";

#[track_caller]
fn assert_plain(printed: &str) {
    let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!printed.chars().any(obeyed), "{printed:?}");
}

#[test]
fn nothing_that_a_message_says_reaches_the_terminal_as_an_order() {
    let device = Device::new();
    let outbox = device.open_writer();
    let message = Message::text(EVIL, EVIL)
        .with_key(EVIL)
        .with_header(EVIL, EVIL)
        .with_content_type(EVIL)
        .with_response_topic(EVIL)
        .with_correlation_data(EVIL);
    enqueue(&outbox, [message]);
    let sql = device.sql();
    let mean = "UPDATE outbox SET last_error = ?1, held_by = 'key ' || ?1, attempts = 1 WHERE id = 1";
    sql.execute(mean, [EVIL]).unwrap();

    let listed = look(&device, &["list"]).ok();
    assert_plain(&listed);
    assert!(listed.contains("evil\\u{1b}[2J"), "{listed}");
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let shown = look(&device, &["show", "1"]).ok();
    assert_plain(&shown);
    assert_eq!(shown.matches("\nstatus  sent").count(), 0, "{shown}");
    sql.execute("UPDATE outbox SET status = 'FAILED' WHERE id = 1", []).unwrap();
    let status = look(&device, &["status"]).ok();
    assert_plain(&status);
    assert!(status.contains("\\u{9b}2J"), "{status}");

    for args in [&["status", "--json"][..], &["list", "--json"], &["show", "1", "--json"]] {
        let printed = look(&device, args).ok();
        assert_plain(&printed);
        let object = &objects(&printed)[0];
        let topic = object.get("topic").unwrap_or(&object["last_failed"]["topic"]);
        assert_eq!(topic, EVIL, "JSON has it all the same");
    }
    assert_eq!(look(&device, &["show", "1", "--raw"]).out, EVIL.as_bytes());
}

#[test]
fn nothing_that_a_path_says_reaches_the_terminal_as_an_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evil\x1b[2J\u{202e}\nedge-outbox: all is well.db");
    let with = |args: &[&str]| {
        let mut args: Vec<_> = args.iter().map(OsStr::new).collect();
        args.insert(1, file.as_os_str());
        run(args)
    };
    let nowhere = "--to=mqtt://127.0.0.1:1";
    for args in [&["status"][..], &["list"], &["retry", "--all"], &["purge"], &["forward", nowhere]] {
        let told = with(args).refused(1);
        assert_plain(&told);
        assert!(told.contains("evil\\u{1b}[2J") && !told.contains("\nedge-outbox: all is well"), "{args:?}: {told}");
    }
    let made = with(&["init"]).ok();
    assert_plain(&made);
    assert_eq!(made.lines().count(), 1, "{made}");
    for args in [&["show", "1"][..], &["forward", nowhere, "--drain", "--config", "evil\x1b[2J"]] {
        let ran = with(args);
        assert_ne!(ran.code, Some(0), "{args:?}");
        assert_plain(&ran.err);
    }
}

#[test]
fn nothing_that_is_typed_reaches_the_terminal_as_an_order() {
    let device = Device::new();
    for args in [&["list", EVIL][..], &["list", "--status", EVIL], &["show", EVIL], &["list", "--limit", EVIL]] {
        let told = look(&device, args).refused(2);
        assert_plain(&told);
        assert!(told.contains("evil\\u{1b}[2J"), "{args:?}: {told}");
    }
}

#[test]
fn a_damaged_row_is_shown_with_the_reason_why_it_cannot_be_sent() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("weather/roof", 0..2));
    let sql = device.sql();
    sql.execute("UPDATE outbox SET checksum = 1 WHERE id = 1", []).unwrap();

    let shown = look(&device, &["show", "1"]).ok();
    assert!(shown.contains("does not match its checksum") && shown.contains("weather/roof"), "{shown}");
    let shown = &objects(&look(&device, &["show", "1", "--json"]).ok())[0];
    assert!(shown["unsendable"].as_str().unwrap().contains("checksum"), "{shown}");
    assert_eq!((&shown["topic"], &shown["payload"]), (&"weather/roof".into(), &Value::Null));
    let raw = look(&device, &["show", "1", "--raw"]);
    assert_eq!(raw.out, b"");
    let told = raw.refused(1);
    assert!(told.contains("device.db: row 1") && told.contains("checksum"), "{told}");
}

#[test]
fn rows_that_no_row_can_be_are_listed_and_shown_without_a_panic() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("weather", 0..8));
    let sql = device.sql();
    sql.execute_batch("PRAGMA ignore_check_constraints = 1").unwrap();
    let ill = [
        "status = 'GONE'",
        "created_at = 9223372036854775807, status_at = 9223372036854775807",
        "created_at = -9223372036854775808, status_at = -1",
        "attempts = -5, qos = 7, retain = 9",
        "held_by = '', key = ''",
        "topic = CAST(x'ff1b' AS TEXT), checksum = NULL",
        "headers = '[1', checksum = NULL",
        "expires_at = 9223372036854775807",
    ];
    for (nth, ill) in ill.iter().enumerate() {
        sql.execute(&format!("UPDATE outbox SET {ill} WHERE id = ?1"), params![nth as i64 + 1]).unwrap();
    }
    for form in [&[][..], &["--json"]] {
        let with_form = |args: &[&'static str]| look(&device, &[args, form].concat()).ok();
        assert_plain(&with_form(&["status"]));
        assert_plain(&with_form(&["list"]));
        for id in ["1", "2", "3", "4", "5", "6", "7", "8"] {
            assert_plain(&with_form(&["show", id]));
        }
    }
    let listed = objects(&look(&device, &["list", "--json"]).ok());
    assert_eq!(
        (&listed[0]["status"], &listed[1]["created_at"], &listed[3]["qos"]),
        (&"damaged".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(objects(&look(&device, &["list", "--json", "--status", "damaged"]).ok()).len(), 1);
}

#[test]
fn of_a_database_that_is_damaged_status_tells_what_it_can() {
    let device = Device::new();
    let outbox = Outbox::builder(device.database()).settings(quick()).open().unwrap();
    enqueue(&outbox, (0..2000).map(|_| Message::text("weather", "x".repeat(200))));
    drop(outbox);
    let sql = device.sql();
    sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let page_size: i64 = value(&sql, "PRAGMA page_size", []);
    let root: i64 = value(&sql, "SELECT rootpage FROM sqlite_schema WHERE name = 'outbox'", []);
    drop(sql);
    let file = OpenOptions::new().write(true).open(device.database()).unwrap();
    file.write_all_at(&vec![0xa5; page_size as usize], ((root - 1) * page_size) as u64).unwrap();

    let told = look(&device, &["status"]);
    let printed = String::from_utf8(told.out.clone()).unwrap();
    assert!(printed.contains("cannot be counted") && printed.contains("files  "), "{printed}");
    let words = told.refused(1);
    assert!(words.contains("device.db") && words.contains("damaged") && words.contains(".recover"), "{words}");

    let told = look(&device, &["status", "--json"]);
    let object = &objects(std::str::from_utf8(&told.out).unwrap())[0];
    assert!(object["error"].as_str().unwrap().contains("damaged"), "{object}");
    assert_eq!(object["pending"], Value::Null);
    assert_eq!(object["database_bytes"], std::fs::metadata(device.database()).unwrap().len());
    told.refused(1);
    for args in [&["list"][..], &["show", "5"]] {
        assert!(look(&device, args).refused(1).contains("damaged"), "{args:?}");
    }
}
