//! `status`, `list` and `show`.

mod forms;
mod hostile;
mod live;
mod truth;
mod watching;

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use edge_outbox::Message;
use serde_json::Value;

use crate::device::{Device, enqueue, numbered, value};
use crate::tool::{Ran, command, run};

/// A command on the device's database.
#[track_caller]
fn look(device: &Device, args: &[&str]) -> Ran {
    run(with_database(device, args))
}

/// The database stands behind the command's name.
fn with_database(device: &Device, args: &[&str]) -> Vec<PathBuf> {
    let mut args: Vec<_> = args.iter().map(PathBuf::from).collect();
    args.insert(1, device.database());
    args
}

/// What it printed: one object a line.
#[track_caller]
fn objects(printed: &str) -> Vec<Value> {
    let parsed = printed.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>().unwrap();
    assert!(parsed.iter().all(Value::is_object), "{printed}");
    parsed
}

fn rows(listed: &[Value]) -> Vec<i64> {
    listed.iter().map(|message| message["row"].as_i64().unwrap()).collect()
}

#[test]
fn a_file_that_is_not_there_is_said_so_and_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mistyped.db");
    for args in [&["status"][..], &["status", "--watch"], &["list"], &["show"]] {
        let mut args: Vec<_> = args.iter().map(|arg| OsStr::new(*arg)).collect();
        args.insert(1, file.as_os_str());
        if args[0] == "show" {
            args.push(OsStr::new("1"));
        }
        let told = run(&args).refused(1);
        assert!(told.contains("mistyped.db does not exist") && told.contains("edge-outbox init"), "{told}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{args:?}");
    }
}

#[test]
fn a_list_is_in_order_and_says_when_there_are_more() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("weather", 0..1201));

    let listed = look(&device, &["list", "--json"]);
    assert!(listed.err.contains("--after 100 "), "{}", listed.err);
    assert_eq!(rows(&objects(&listed.ok())), (1..=100).collect::<Vec<_>>());

    let all = look(&device, &["list", "--json", "--limit", "0"]);
    assert_eq!(all.err, "");
    assert_eq!(rows(&objects(&all.ok())), (1..=1201).collect::<Vec<_>>());

    let last = look(&device, &["list", "--json", "--after", "1100", "--limit", "101"]);
    assert_eq!(last.err, "", "there are no more");
    assert_eq!(rows(&objects(&last.ok())), (1101..=1201).collect::<Vec<_>>());

    let page = look(&device, &["list", "--limit", "1000"]).ok();
    assert_eq!(page.lines().count(), 1001, "a head, and a line for each");
    assert!(page.lines().next().unwrap().trim_start().starts_with("ROW"), "{page}");
}

#[test]
fn the_newest_come_first_where_they_are_asked_for() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("weather", 0..1201));
    device.sql().execute("UPDATE outbox SET status = 'FAILED' WHERE id % 400 = 0", []).unwrap();
    let newest = |args: &[&str]| look(&device, &[&["list", "--json", "--newest"], args].concat());
    let numbers = |listed: Ran| rows(&objects(&listed.ok()));

    let first = newest(&["--limit", "3"]);
    assert!(first.err.contains("--before 1199 "), "{}", first.err);
    assert_eq!(numbers(first), [1201, 1200, 1199]);
    assert_eq!(numbers(newest(&["--limit", "2", "--before", "1199"])), [1198, 1197]);
    let last = newest(&["--limit", "2", "--before", "3"]);
    assert_eq!(last.err, "", "there are no more");
    assert_eq!(numbers(last), [2, 1]);
    assert_eq!(numbers(newest(&["--limit", "0"])), (1..=1201).rev().collect::<Vec<_>>());
    assert_eq!(numbers(newest(&["--status", "failed"])), [1200, 800, 400]);

    look(&device, &["list", "--newest", "--after", "3"]).refused(2);
    look(&device, &["list", "--before", "3"]).refused(2);
}

#[test]
fn a_list_goes_on_behind_a_whole_id_too() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("weather", 0..5));
    let listed = look(&device, &["list", "--json", "--after", "3-0123456789abcdef"]).ok();
    assert_eq!(rows(&objects(&listed)), [4, 5]);
    assert_eq!(rows(&objects(&look(&device, &["list", "--json", "--after", "0"]).ok())).len(), 5);
}

#[test]
fn a_list_is_of_what_was_asked_for() {
    let device = Device::new();
    let outbox = device.open_writer();
    let topics = ["weather/roof", "weather/yard", "alarms/siren"];
    enqueue(&outbox, (0..30).map(|nth| Message::text(topics[nth % 3], "x").with_key(format!("k{}", nth % 5))));
    let sql = device.sql();
    sql.execute("UPDATE outbox SET status = 'SENT' WHERE id <= 6", []).unwrap();
    sql.execute("UPDATE outbox SET status = 'FAILED', last_error = 'no' WHERE id BETWEEN 7 AND 10", []).unwrap();

    for (args, holds) in [
        (&["--status", "failed"][..], "status = 'FAILED'"),
        (&["--status", "SENT"], "status = 'SENT'"),
        (&["--status", "pending", "--key", "k2"], "status = 'PENDING' AND key = 'k2'"),
        (&["--topic", "weather/+"], "topic LIKE 'weather/%'"),
        (&["--topic", "alarms/#", "--key", "k1", "--after", "5"], "topic LIKE 'alarms/%' AND key = 'k1' AND id > 5"),
        (&["--status", "damaged"], "0"),
    ] {
        let mut statement = sql.prepare(&format!("SELECT id FROM outbox WHERE {holds} ORDER BY id")).unwrap();
        let truth: Vec<i64> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let listed = look(&device, &[&["list", "--json"], args].concat()).ok();
        assert_eq!(rows(&objects(&listed)), truth, "{args:?}");
    }
}

#[test]
fn wrong_arguments_are_wrong_usage_in_words() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("weather", 0..1));
    for (args, words) in [
        (&["list", "--status", "gone"][..], "pending, sent, failed or damaged"),
        (&["list", "--topic", "a/#/b"], "must be the last level"),
        (&["list", "--after=-1"], "a row's number"),
        (&["show", "0"], "42-0123456789abcdef"),
        (&["show", "one"], "42-0123456789abcdef"),
        (&["show", "1", "--raw", "--json"], "cannot be used with"),
    ] {
        let told = look(&device, args).refused(2);
        assert!(told.contains(words), "{args:?}: {told}");
    }
}

#[test]
fn a_message_is_shown_whole() {
    let device = Device::new();
    let outbox = device.open_writer();
    let text = format!("{{\n  \"celsius\": 21.5\n}}{}", " ".repeat(5000));
    let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
    enqueue(
        &outbox,
        [
            Message::text("weather/roof", &text)
                .with_key("roof")
                .with_header("unit", "celsius")
                .with_header("unit", "kelvin")
                .with_content_type("application/json")
                .with_response_topic("answers")
                .with_correlation_data(*b"\xff\x00")
                .with_expiry(std::time::Duration::from_secs(3600)),
            Message::new("weather/picture", bytes.clone()),
            Message::text("weather/nothing", ""),
        ],
    );
    let id: String = value(&device.sql(), "SELECT format('%d-%016x', id, nonce) FROM outbox WHERE id = 1", []);

    let shown = look(&device, &["show", &id]).ok();
    let words = [
        "weather/roof",
        "roof",
        "unit: celsius",
        "unit: kelvin",
        "application/json",
        "answers",
        "ff00",
        "--raw",
        "minutes",
    ];
    words.iter().for_each(|word| assert!(shown.contains(word), "{word}: {shown}"));
    assert!(shown.contains("\n    \"celsius\": 21.5\n"), "{shown}");
    let shown = look(&device, &["show", "2"]).ok();
    assert!(shown.contains("000000f0  f0 f1") && !shown.contains("00000100") && shown.contains("--raw"), "{shown}");
    assert!(look(&device, &["show", "3"]).ok().contains("empty"));

    assert_eq!(look(&device, &["show", &id, "--raw"]).ok(), text);
    assert_eq!(look(&device, &["show", "2", "--raw"]).out, bytes);
    assert_eq!(look(&device, &["show", "3", "--raw"]).out, b"");

    let shown = &objects(&look(&device, &["show", &id, "--json"]).ok())[0];
    assert_eq!(shown["id"], *id);
    assert_eq!(shown["payload"], *text);
    assert_eq!(shown["payload_hex"], Value::Null);
    assert_eq!(shown["headers"], serde_json::json!([["unit", "celsius"], ["unit", "kelvin"]]));
    assert_eq!((&shown["correlation_data"], &shown["correlation_data_hex"]), (&Value::Null, &"ff00".into()));
    assert_eq!(shown["expiry_ms"], 3_600_000);
    let shown = &objects(&look(&device, &["show", "2", "--json"]).ok())[0];
    assert_eq!(shown["payload"], Value::Null);
    assert!(shown["payload_hex"].as_str().unwrap().starts_with("000102"), "{shown}");
    assert_eq!(shown["payload_bytes"], 3000);
}

#[test]
fn a_row_that_is_not_there_is_told_from_one_that_never_was() {
    let device = Device::new();
    let outbox = device.open_writer();
    assert!(look(&device, &["show", "1"]).refused(1).contains("none at all"));
    enqueue(&outbox, numbered("weather", 0..3));
    device.sql().execute("DELETE FROM outbox WHERE id = 2", []).unwrap();
    let told = look(&device, &["show", "2"]).refused(1);
    assert!(told.contains("device.db: row 2 is not there any more") && told.contains("purged"), "{told}");
    let told = look(&device, &["show", "9", "--raw"]).refused(1);
    assert!(told.contains("the newest is row 3"), "{told}");
}

#[test]
fn a_whole_id_is_not_that_of_another_message_in_the_same_row() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("weather", 0..1));
    for how in [&["show", "1-0123456789abcdef"][..], &["show", "1-0123456789abcdef", "--raw"]] {
        let shown = look(&device, how);
        assert_eq!(shown.out, b"");
        assert!(shown.refused(1).contains("1-0123456789abcdef"));
    }
}

#[test]
fn who_reads_no_further_is_no_error() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("weather", 0..2000));
    for args in
        [&["list", "--json", "--limit", "0"][..], &["list", "--limit", "0"], &["status", "--watch"], &["status"]]
    {
        let mut child =
            command(with_database(&device, args)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    }
}
