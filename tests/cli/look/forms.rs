//! The JSON forms, and what the manual says of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use edge_outbox::Message;
use edge_outbox::broker::{Refusal, Verdict};
use serde_json::Value;

use super::{look, objects};
use crate::device::{Device, broker, enqueue, eventually, numbered, status_of, wait_for_status};

fn manual() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md")).unwrap()
}

/// The keys in the tables under a heading of the manual.
fn documented(heading: &str) -> BTreeSet<String> {
    let manual = manual();
    let (_, section) = manual.split_once(&format!("\n### {heading}\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap().split("\n### ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.map(|(key, _)| key.to_owned()).collect()
}

/// `a.b` for a key in an object, `a[].b` for one in the objects of an array.
fn keys(object: &Value, before: &str, found: &mut BTreeSet<String>) {
    for (key, value) in object.as_object().unwrap() {
        let key = format!("{before}{key}");
        match value {
            Value::Object(_) => keys(value, &format!("{key}."), found),
            Value::Array(members) => {
                let objects = members.iter().filter(|member| member.is_object());
                objects.for_each(|member| keys(member, &format!("{key}[]."), found));
            }
            _ => {}
        }
        found.insert(key);
    }
}

fn printed(device: &Device, args: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    objects(&look(device, args).ok()).iter().for_each(|object| keys(object, "", &mut found));
    found
}

#[test]
fn the_manual_tells_of_every_key_that_is_printed_and_of_no_other() {
    let device = Device::new();
    let (broker, _everything) = broker();
    broker.refuse("never/#", Refusal::new(Verdict::Never, "no"), usize::MAX).unwrap();
    broker.close_topic("closed/#", "not for you").unwrap();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("never/1", "x").with_header("a", "b"), Message::text("closed/2", "x")]);
    let sql = device.sql();
    eventually("it is parked", || status_of(&sql, 1) == "FAILED");
    wait_for_status(&outbox, "a topic is closed", |status| !status.closed_topics.is_empty());

    let list = documented("JSON of list");
    assert_eq!(printed(&device, &["list", "--json"]), list);
    let show = &documented("JSON of show") | &list;
    assert_eq!(printed(&device, &["show", "1", "--json"]), show);
    let status = documented("JSON of status");
    assert!(list.len() > 10 && status.len() > 40 && show.len() > list.len());
    assert_eq!(printed(&device, &["status", "--json"]), status);
}

#[test]
fn the_manuals_list_is_as_it_is_printed() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("before", 0..869));
    let sizes = [("roof", 80), ("roof", 80), ("yard", 1213)];
    let message = |(key, size)| Message::text(format!("weather/{key}"), "x".repeat(size)).with_key(key);
    enqueue(&device.open_writer(), sizes.map(message));
    let history = "
        UPDATE outbox SET created_at = created_at - 785000 WHERE id < 872;
        UPDATE outbox SET created_at = created_at - 725000 WHERE id = 872;
        UPDATE outbox SET status = 'SENT', attempts = 1 WHERE id = 870;
        UPDATE outbox SET status = 'FAILED', attempts = 3, last_error = 'payload format invalid' WHERE id = 871";
    device.sql().execute_batch(history).unwrap();
    let listed = look(&device, &["list", "--after", "869"]).ok();
    assert!(manual().contains(&format!("```text\n{listed}```")), "{listed}");
}

#[test]
fn a_key_is_there_where_nothing_is_known_of_it() {
    let device = Device::new();
    enqueue(&device.open_writer(), [Message::text("weather", "x")]);
    device.sql().execute("UPDATE outbox SET checksum = 1 WHERE id = 1", []).unwrap();
    assert_eq!(printed(&device, &["show", "1", "--json"]), &documented("JSON of show") | &documented("JSON of list"));
    let mut without = documented("JSON of status");
    without.retain(|key| !key.starts_with("last_failed.") && !key.contains("[]"));
    assert_eq!(printed(&device, &["status", "--json"]), without);
    for args in [&["status", "--json"][..], &["list", "--json"], &["show", "1", "--json"]] {
        assert_eq!(objects(&look(&device, args).ok())[0]["format"], 1);
    }
}
