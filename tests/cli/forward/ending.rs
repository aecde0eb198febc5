//! How it ends: at signals, and where it is of no use any more.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use edge_outbox::Inspector;
use edge_outbox::inspector::Forwarder;

use super::{device, forward_to, nowhere, pending};
use crate::device::{Device, SOON, enqueue, eventually, numbered};
use crate::mosquitto::Mosquitto;
use crate::tool::{Running, as_nohup_starts, command};

#[test]
fn each_signal_that_asks_for_the_end_gets_a_clean_one() {
    let mosquitto = Mosquitto::start();
    for signal in ["TERM", "INT", "HUP"] {
        let device = device(numbered("weather/roof", 0..10));
        let subscriber = mosquitto.subscribe("#");
        // What is acknowledged stands in the table only because it is written down at the end.
        let mut forward = command(["forward", "--settle-after=1m", "--to", &mosquitto.url()]);
        forward.arg(device.database());
        let mut running = Running::start(forward);
        running.hear("session with 127.0.0.1");
        subscriber.take(10);
        running.signal(signal);
        let (status, said) = running.wait();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains(&format!("SIG{signal}")), "{said}");
        assert_eq!(pending(&device), 0, "after SIG{signal}");
        drop(subscriber);
    }
}

#[test]
fn a_drain_that_is_ended_by_a_signal_with_something_left_has_failed() {
    let device = device(numbered("weather/roof", 0..2));
    let mut running = Running::start(forward_to(&device, &nowhere(), &["--drain"]));
    running.hear("no session with the broker");
    running.signal("TERM");
    let (status, said) = running.wait();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("SIGTERM before it was drained: 2 messages pending"), "{said}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (device, mosquitto) = (device([]), Mosquitto::start());
    let mut running = Running::start(forward_to(&device, &mosquitto.url(), &[]));
    running.hear("session with 127.0.0.1");
    // What is in flight now is waited for by the first one: for eight seconds.
    mosquitto.signal("STOP");
    enqueue(&device.open_writer(), numbered("weather/roof", 0..100));
    eventually("something is in flight", || in_flight(&device) > 0);
    running.signal("TERM");
    running.hear("at once at another one");
    let begun = Instant::now();
    running.signal("TERM");
    let (status, said) = running.wait();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(6), "it took {:?}", begun.elapsed());
    assert_eq!(pending(&device), 100);
}

fn in_flight(device: &Device) -> u64 {
    let forwarder = Inspector::open(device.database(), SOON).map(|inspector| inspector.forwarder());
    if let Ok(Forwarder::Active(live)) = forwarder { live.in_flight } else { 0 }
}

#[test]
fn a_hangup_that_was_to_be_ignored_is() {
    let (device, mosquitto) = (device([]), Mosquitto::start());
    let mut running = Running::start(as_nohup_starts(&forward_to(&device, &mosquitto.url(), &[])));
    running.hear("session with 127.0.0.1");
    running.signal("HUP");
    let subscriber = mosquitto.subscribe("#");
    enqueue(&device.open_writer(), numbered("weather/roof", 0..1));
    assert_eq!(subscriber.take(1)[0].text(), "0");
    running.signal("TERM");
    let (status, said) = running.wait();
    assert!(status.success() && said.contains("SIGTERM"), "{said}");
}

#[test]
fn where_the_log_is_deleted_it_saves_that_and_ends_so_that_it_is_started_anew() {
    let device = device(numbered("weather/roof", 0..3));
    // Of a program that is not closed, so that the log is not moved into the database.
    let held = device.open_writer();
    enqueue(&held, numbered("weather/roof", 3..5));
    let mut running = Running::start(forward_to(&device, &nowhere(), &[]));
    running.hear("no session with the broker");
    fs::remove_file(device.folder().join("device.db-wal")).unwrap();
    let (status, said) = running.wait();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("start it again"), "{said}");
    drop(held);
    let _ = fs::remove_file(device.folder().join("device.db-shm"));
    assert_eq!(pending(&device), 5);
}

#[test]
fn where_the_database_is_moved_away_for_good_it_ends_so_that_it_is_started_anew() {
    let device = device(numbered("weather/roof", 0..3));
    let mut running = Running::start(forward_to(&device, &nowhere(), &[]));
    running.hear("no session with the broker");
    fs::rename(device.database(), device.folder().join("elsewhere.db")).unwrap();
    let (status, said) = running.wait();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("device.db is not the file any more that was opened"), "{said}");
    assert!(!device.database().exists());
}

#[test]
fn nobody_has_to_read_its_log() {
    let (device, mosquitto) = (device([]), Mosquitto::start());
    let mut command = forward_to(&device, &mosquitto.url(), &["--drain"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    eventually("it has ended", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
