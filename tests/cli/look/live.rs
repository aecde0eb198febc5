//! What `status` tells of the forwarder in another process: here the test's own.

use std::time::Duration;

use edge_outbox::broker::InProcess;
use edge_outbox::{Backoff, Message, Settings, Storage};
use serde_json::Value;

use super::{look, objects};
use crate::device::{Device, broker, enqueue, eventually, numbered, quick, take};

fn forwarder(device: &Device) -> Value {
    objects(&look(device, &["status", "--json"]).ok()).remove(0)["forwarder"].take()
}

/// Asks until it holds.
#[track_caller]
fn wait_for(device: &Device, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    eventually(what, || {
        last = forwarder(device);
        holds(&last)
    });
    last
}

/// What people read, once it has all these words.
#[track_caller]
fn wait_for_words(device: &Device, words: &[&str]) {
    eventually(&format!("{words:?}"), || {
        let printed = look(device, &["status"]).ok();
        words.iter().all(|word| printed.contains(word))
    });
}

#[test]
fn that_nobody_forwards_is_told_from_a_link_that_stands() {
    let device = Device::new();
    let writer = device.open_writer();
    assert_eq!(forwarder(&device)["state"], "none");
    wait_for_words(&device, &["nobody forwards"]);

    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    enqueue(&writer, numbered("weather", 0..3));
    (0..3).for_each(|_| drop(take(&everything)));
    let told = wait_for(&device, "three are sent", |told| told["sent"] == 3);
    assert_eq!((&told["state"], &told["role"], &told["link"]), (&"active".into(), &"active".into(), &"up".into()));
    assert_eq!(told["process"], std::process::id());
    assert_eq!((&told["storage"], &told["reconnects"], &told["in_flight"]), (&"ok".into(), &0.into(), &0.into()));
    assert_eq!(told["closed_topics_count"], 0);
    wait_for_words(&device, &[&format!("process {}, active for ", std::process::id()), "link         up", "3 sent"]);

    broker.break_sessions();
    wait_for(&device, "it has connected again", |told| told["reconnects"] == 1 && told["link"] == "up");
    outbox.shutdown(Duration::from_secs(10)).unwrap();
    drop(outbox);
    wait_for(&device, "nobody forwards any more", |told| told["state"] == "none");
}

#[test]
fn an_outage_is_told_with_its_reason_and_the_next_try() {
    let device = Device::new();
    let broker = InProcess::new();
    broker.go_offline();
    let long = Duration::from_secs(600);
    let settings = Settings { reconnect: Backoff { first: long, longest: long }, ..quick() };
    let outbox = device.open_with(settings, broker);
    let told = wait_for(&device, "offline", |told| told["link"] == "offline");
    assert!(told["link_why"].as_str().unwrap().contains("told to be offline"), "{told}");
    assert!(told["offline_ms"].is_u64(), "{told}");
    assert!((1..=600_000).contains(&told["next_try_ms"].as_u64().unwrap()), "{told}");
    wait_for_words(&device, &["offline for ", "next try in ", "told to be offline"]);

    outbox.pause().unwrap();
    let told = wait_for(&device, "paused", |told| told["link"] == "paused");
    assert_eq!(
        (&told["link_why"], &told["offline_ms"], &told["next_try_ms"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    wait_for_words(&device, &["link         paused"]);
}

#[test]
fn a_broker_that_does_not_want_this_client_is_told_with_its_words() {
    let device = Device::new();
    let broker = InProcess::new();
    broker.refuse_sessions("bad user name");
    let long = Duration::from_secs(600);
    let settings = Settings { reconnect: Backoff { first: long, longest: long }, ..quick() };
    let _outbox = device.open_with(settings, broker);
    let told = wait_for(&device, "refused", |told| told["link"] == "refused");
    assert!(told["link_why"].as_str().unwrap().contains("bad user name"), "{told}");
    assert!((0..600_000).contains(&told["offline_ms"].as_u64().unwrap()), "{told}");
    assert!((1..=600_000).contains(&told["next_try_ms"].as_u64().unwrap()), "{told}");
    wait_for_words(&device, &["refused for ", "next try in ", "bad user name"]);
}

#[test]
fn that_every_topic_is_closed_is_told_with_the_next_try() {
    let device = Device::new();
    let broker = InProcess::new();
    broker.close_topic("closed", "not for you").unwrap();
    let long = Duration::from_secs(600);
    let settings = Settings { reconnect: Backoff { first: long, longest: long }, ..quick() };
    let outbox = device.open_with(settings, broker);
    enqueue(&outbox, numbered("closed", 0..1));
    let told = wait_for(&device, "all is closed", |told| told["link"] == "topics_closed");
    assert!(told["offline_ms"].is_null() && told["link_why"].is_null(), "the session stands: {told}");
    assert!((1..=600_000).contains(&told["next_try_ms"].as_u64().unwrap()), "{told}");
    assert_eq!(told["closed_topics_count"], 1);
    wait_for_words(&device, &["up; every topic that was tried is closed", "next try in ", "closed: not for you"]);
}

#[test]
fn closed_topics_are_named_and_of_many_the_first_ones() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.close_topic("closed/+", "not for you\x1b[2J").unwrap();
    let outbox = device.open(broker);
    enqueue(&outbox, numbered("open", 0..1)); // where all is closed, the link says so
    take(&everything);
    enqueue(&outbox, (0..13).map(|nth| Message::text(format!("closed/{nth}"), "x")));
    let told = wait_for(&device, "thirteen are closed", |told| told["closed_topics_count"] == 13);
    assert_eq!(told["closed_topics"].as_array().unwrap().len(), 13);
    assert!(told["closed_topics"][0]["reason"].as_str().unwrap().contains("not for you\x1b[2J"));
    let printed = look(&device, &["status"]).ok();
    assert!(printed.contains("13 topics") && printed.contains("and 3 more"), "{printed}");
    assert_eq!(printed.matches(": not for you\\u{1b}[2J").count(), 10, "{printed}");
}

#[test]
fn a_disk_without_space_is_told() {
    let device = Device::new();
    drop(device.open_writer());
    let most = 1 << 40; // what the setting allows
    if objects(&look(&device, &["status", "--json"]).ok())[0]["free_bytes"].as_u64().is_none_or(|free| free > most) {
        println!("SKIPPED: this disk has more free space than can be kept free");
        return;
    }
    let settings = Settings { keep_free: most, ..quick() };
    let outbox = device.open_with(settings, InProcess::new());
    eventually("it is full", || outbox.status().storage == Storage::Full);
    wait_for(&device, "full", |told| told["storage"] == "full");
    wait_for_words(&device, &["storage      full"]);
}
