//! What other processes are told of a forwarder, by [`Inspector::forwarder`]: the truth, in words where there is none to
//! be had, and always soon.

mod clients;
mod hostile;
mod owners;
mod processes;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edge_outbox::broker::InProcess;
use edge_outbox::inspector::{Forwarder, Live};
use edge_outbox::{Inspector, LinkState, Message, Outbox, Role, Storage};

use crate::child::{listen, say};
use crate::device::{
    Device, SOON, broker, enqueue, eventually, next, numbered, quick, take, wait_for_stats, wait_for_status,
};

/// What asking may take at most, and what a busy machine may add to it.
const NOT_LONG: Duration = Duration::from_secs(12);

fn socket(database: &Path) -> PathBuf {
    beside(database, "-outbox-status")
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[track_caller]
fn ask(database: &Path) -> Forwarder {
    let inspector = Inspector::open(database, SOON).unwrap();
    let begun = Instant::now();
    let told = inspector.forwarder();
    assert!(begun.elapsed() < NOT_LONG, "{:?}", begun.elapsed());
    told
}

#[track_caller]
fn live(database: &Path) -> Live {
    match ask(database) {
        Forwarder::Active(live) => live,
        other => panic!("{other:?}"),
    }
}

/// Asks again until it `holds`.
#[track_caller]
fn wait_for_live(database: &Path, what: &str, holds: impl Fn(&Live) -> bool) -> Live {
    let mut found = None;
    eventually(what, || {
        found = match ask(database) {
            Forwarder::Active(live) if holds(&live) => Some(live),
            _ => None,
        };
        found.is_some()
    });
    found.unwrap()
}

/// The part of a process that forwards, when it may, and says so.
pub fn forwards(database: &Path) {
    let broker = InProcess::new();
    let _everything = broker.subscribe("#").unwrap();
    let opened = Outbox::builder(database).settings(quick()).broker(broker).open();
    let outbox = match opened {
        Ok(outbox) => outbox,
        Err(error) => return say(error),
    };
    say("open");
    while listen().is_some() {
        wait_for_status(&outbox, "active", |status| status.role == Role::Active);
        say("active");
    }
}

/// The part of a process that asks.
pub fn asks(database: &Path) {
    match Inspector::open(database, SOON).map(|inspector| inspector.forwarder()) {
        Ok(told) => say(format!("{told:?}")),
        Err(error) => say(error),
    }
}

#[test]
fn where_nobody_forwards_there_is_none() {
    let device = Device::new();
    drop(device.open_writer());
    assert_eq!(ask(&device.database()), Forwarder::None);
    let writer = device.open_writer();
    assert_eq!(ask(&device.database()), Forwarder::None);
    drop(writer);
    let (broker, _everything) = broker();
    drop(device.open(broker));
    assert_eq!(ask(&device.database()), Forwarder::None, "after a shutdown");
    assert!(!socket(&device.database()).exists());
}

#[test]
fn an_active_forwarder_says_how_it_stands() {
    let device = Device::new();
    let (broker, everything) = broker();
    let begun = Instant::now();
    let outbox = device.open(broker.clone());
    enqueue(&outbox, numbered("weather", 0..5));
    (0..3).for_each(|_| drop(take(&everything)));
    let held = [next(&everything), next(&everything)];
    wait_for_stats(&outbox, "three are sent", |stats| stats.sent == 3 && stats.in_flight == 2);
    let told = live(&device.database());
    assert_eq!((told.status.clone(), told.process), (outbox.status(), std::process::id()));
    assert_eq!((told.status.role, &told.status.link), (Role::Active, &LinkState::Up));
    assert_eq!((told.sent, told.in_flight, told.damaged, told.reconnects, told.closed_topics), (3, 2, 0, 0, 0));
    assert!(told.active_for <= begun.elapsed());
    held.into_iter().for_each(|arrival| arrival.acknowledge());

    broker.break_sessions();
    wait_for_live(&device.database(), "another session", |live| live.reconnects > 0);
    outbox.shutdown(SOON).unwrap();
    assert_eq!(ask(&device.database()), Forwarder::None);
    assert!(!socket(&device.database()).exists(), "the outbox still stands, its forwarder does not");
}

#[test]
fn an_outage_is_told_with_its_reason_and_how_long_it_lasts() {
    let device = Device::new();
    let (broker, _everything) = broker();
    broker.go_offline();
    let begun = Instant::now();
    let outbox = device.open(broker.clone());
    wait_for_status(&outbox, "offline", |status| matches!(status.link, LinkState::Offline { .. }));
    let offline = |live: &Live| matches!(live.status.link, LinkState::Offline { .. });
    let told = wait_for_live(&device.database(), "offline", offline);
    let LinkState::Offline { since, next_try, why } = &told.status.link else { panic!("{told:?}") };
    // Moments come over the wire as whole milliseconds.
    assert!(*since + Duration::from_millis(2) >= begun && *since <= Instant::now(), "since {:?}", since.elapsed());
    assert!(*next_try <= Instant::now() + quick().reconnect.longest, "{told:?}");
    let LinkState::Offline { why: words, .. } = outbox.status().link else { return };
    assert_eq!(*why, words);

    broker.go_online();
    wait_for_live(&device.database(), "up", |live| live.status.link == LinkState::Up);
    outbox.pause().unwrap();
    wait_for_live(&device.database(), "paused", |live| live.status.link == LinkState::Paused);
    broker.refuse_sessions("not \"you\"");
    outbox.resume().unwrap();
    let refused =
        |live: &Live| matches!(&live.status.link, LinkState::Refused { why, .. } if why.contains("not \"you\""));
    wait_for_live(&device.database(), "refused", refused);
}

#[test]
fn closed_topics_are_told_and_their_number_where_there_are_too_many() {
    let device = Device::new();
    let (broker, _everything) = broker();
    broker.close_topic("shut/#", "no ".repeat(1_000)).unwrap();
    let outbox = device.open(broker);
    enqueue(&outbox, (0..100).map(|n| Message::text(format!("shut/{n}"), "")));
    let told = wait_for_live(&device.database(), "all topics", |live| live.closed_topics == 100);
    let shown = &told.status.closed_topics;
    assert!((10..100).contains(&shown.len()), "{}", shown.len());
    assert!(shown.iter().all(|closed| closed.topic.starts_with("shut/") && closed.reason.starts_with("no no ")));
    let all = outbox.status().closed_topics;
    assert!(shown.iter().all(|closed| all.iter().any(|known| known.topic == closed.topic)));
}

#[test]
fn it_says_what_is_wrong_with_the_database() {
    let device = Device::new();
    let (broker, _everything) = broker();
    let outbox = device.open(broker);
    wait_for_status(&outbox, "active", |status| status.role == Role::Active);
    let inspector = Inspector::open(device.database(), SOON).unwrap();
    let shm = beside(&device.database(), "-shm");
    std::fs::rename(&shm, device.folder().join("away")).unwrap();
    eventually("it is told", || match inspector.forwarder() {
        Forwarder::Active(live) => matches!(live.status.storage, Storage::Replaced(why) if why.contains("-shm")),
        _ => false,
    });
}

/// What the application does in the forwarder's thread takes as long as a disk that does not answer.
#[test]
fn it_answers_while_the_forwarder_itself_hangs() {
    let device = Device::new();
    let (broker, _everything) = broker();
    let refusal =
        edge_outbox::broker::Refusal { verdict: edge_outbox::broker::Verdict::Never, reason: "never".to_owned() };
    broker.refuse("#", refusal, 1).unwrap();
    let (hangs, hung) = std::sync::mpsc::channel();
    let (goes_on, waits) = std::sync::mpsc::channel::<()>();
    let outbox = Outbox::builder(device.database()).settings(quick()).broker(broker);
    let outbox = outbox.on_failed(move |_| {
        hangs.send(()).unwrap();
        let _ = waits.recv();
    });
    let outbox = outbox.open().unwrap();
    enqueue(&outbox, numbered("weather", 0..1));
    hung.recv_timeout(SOON).unwrap();
    assert_eq!(live(&device.database()).status, outbox.status());
    drop(goes_on);
}
