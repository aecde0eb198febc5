//! `forward`: everything arrives, and whoever started it is told how it ended.

mod bar;
mod ending;
mod secrets;
mod settings;
mod unit;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use edge_outbox::{Inspector, QoS};

use crate::device::{Device, SOON, enqueue, eventually, numbered, value};
use crate::mosquitto::Mosquitto;
use crate::tool::{Ran, Running, command, run};

/// Waits that nobody has to sit through.
const QUICK: [&str; 8] = [
    "--settle-after=10ms",
    "--poll-interval=10ms",
    "--reconnect-first=5ms",
    "--reconnect-longest=50ms",
    "--retry-first=5ms",
    "--retry-longest=50ms",
    "--keep-free=0",
    "--reserve=0",
];

/// A device with an outbox in which these messages are.
fn device(messages: impl IntoIterator<Item = edge_outbox::Message>) -> Device {
    let device = Device::new();
    enqueue(&device.open_writer(), messages);
    device
}

/// `forward` of its database, with these arguments behind.
fn forward(device: &Device, args: &[&str]) -> Command {
    let mut command = command(["forward"]);
    command.arg(device.database()).args(QUICK).args(args);
    command
}

fn forward_to(device: &Device, url: &str, args: &[&str]) -> Command {
    let mut command = forward(device, args);
    command.args(["--to", url]);
    command
}

/// Runs it to its end, within a time.
#[track_caller]
fn ran(command: Command) -> Ran {
    let (status, err) = Running::start(command).wait();
    Ran { code: status.code(), out: Vec::new(), err }
}

fn pending(device: &Device) -> i64 {
    value(&device.sql(), "SELECT count(*) FROM outbox WHERE status NOT IN ('SENT', 'FAILED')", [])
}

/// Where nobody listens.
pub fn nowhere() -> String {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    format!("mqtt://127.0.0.1:{port}")
}

#[test]
fn a_drain_ends_once_everything_arrived_and_is_written_down() {
    let (device, mosquitto) = (device(numbered("weather/roof", 0..500)), Mosquitto::start());
    let subscriber = mosquitto.subscribe("#");
    ran(forward_to(&device, &mosquitto.url(), &["--drain", "--timeout", "60"])).ok();
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []), 500);
    let arrived: Vec<_> = subscriber.take(500).into_iter().map(|message| message.text().parse::<usize>()).collect();
    assert_eq!(arrived, (0..500).map(Ok).collect::<Vec<_>>());
    assert_eq!(subscriber.next(Duration::ZERO), None);
}

#[test]
fn an_empty_outbox_is_drained_even_without_a_broker() {
    let device = device([]);
    ran(forward_to(&device, &nowhere(), &["--drain"])).ok();
}

#[test]
fn a_drain_without_a_broker_ends_with_3_at_its_timeout_and_says_why() {
    let (device, begun) = (device(numbered("weather/roof", 0..1_234)), Instant::now());
    let said = ran(forward_to(&device, &nowhere(), &["--drain", "--timeout", "500ms"])).refused(3);
    assert!(begun.elapsed() >= Duration::from_millis(500));
    for words in ["device.db", "--timeout", "1,234 messages pending", "no session with the broker", "refused"] {
        assert!(said.contains(words), "{words:?} is missing in: {said}");
    }
    assert_eq!(pending(&device), 1_234);
}

#[test]
fn a_drain_says_at_its_end_what_is_the_matter_with_the_storage() {
    let device = device(numbered("weather/roof", 0..1));
    let most: u64 = 1 << 40; // what the setting allows
    if Inspector::open(device.database(), SOON).unwrap().files().unwrap().free > most {
        println!("SKIPPED: this disk has more free space than can be kept free");
        return;
    }
    let mut drain = command(["forward", "--drain", "--timeout=2", "--to", &nowhere(), &format!("--keep-free={most}")]);
    drain.arg(device.database());
    let said = ran(drain).refused(3);
    assert!(said.contains("no session with the broker: "), "{said}");
    assert!(said.contains("; the disk has too little space left, and new messages are turned away"), "{said}");
}

#[test]
fn a_drain_that_the_broker_refuses_ends_with_its_words() {
    let mosquitto = Mosquitto::start_with(&["allow_anonymous false"]);
    let device = device(numbered("weather/roof", 0..1));
    let said = ran(forward_to(&device, &mosquitto.url(), &["--drain"])).refused(1);
    assert!(said.contains("the broker refuses: the broker does not allow this client"), "{said}");
    assert!(said.contains("1 message pending"), "{said}");
}

/// A mosquitto that lets everybody write `open/#` and nothing else.
fn particular() -> Mosquitto {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("acl"), "topic write open/#\ntopic read #\n").unwrap();
    Mosquitto::start_in(folder, &["acl_file acl"])
}

#[test]
fn a_drain_sends_all_it_can_whatever_the_order_and_waits_for_closed_topics_until_its_timeout() {
    let mosquitto = particular();
    let open = |qos| numbered("open/roof", 0..1).map(move |message| message.with_qos(qos));
    let closed = || numbered("closed/roof", 0..2);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let orders: [Vec<_>; 3] =
            [open(qos).chain(closed()).collect(), closed().chain(open(qos)).collect(), closed().collect()];
        for messages in orders {
            let device = device(messages.clone());
            let said = ran(forward_to(&device, &mosquitto.url(), &["--drain", "--timeout", "2"])).refused(3);
            let order: Vec<&str> = messages.iter().map(|message| message.topic.as_str()).collect();
            for words in ["2 messages pending", "closed topic \"closed/roof\": not authorised", "--timeout ends that"] {
                assert!(said.contains(words), "{words:?} is missing for {order:?} in: {said}");
            }
            assert_eq!(pending(&device), 2, "{order:?}");
        }
    }
}

#[test]
fn a_drain_goes_on_by_itself_once_its_topics_are_open_again() {
    let mosquitto = particular();
    let device = device(numbered("closed/roof", 0..2).chain(numbered("open/roof", 0..1)));
    let mut drain = Running::start(forward_to(&device, &mosquitto.url(), &["--drain"]));
    drain.hear("waiting for closed topics, with 2 messages pending");
    fs::write(mosquitto.folder().join("acl"), "topic readwrite #\n").unwrap();
    mosquitto.signal("HUP");
    assert_eq!(drain.wait().0.code(), Some(0));
    assert_eq!(pending(&device), 0);
}

#[test]
fn messages_that_are_parked_meanwhile_are_told_and_the_drain_is_done() {
    let (device, mosquitto) = (device(numbered("weather/roof", 98..102)), Mosquitto::start());
    let ran = ran(forward_to(&device, &mosquitto.url(), &["--drain", "--max-payload=2"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("warning: 2 messages parked as failed meanwhile"), "{}", ran.err);
    assert_eq!(pending(&device), 0);
}

#[test]
fn a_second_forwarder_stands_by_and_takes_over_from_one_that_was_killed() {
    let (device, mosquitto) = (device([]), Mosquitto::start());
    let subscriber = mosquitto.subscribe("#");
    let mut first = Running::start(forward_to(&device, &mosquitto.url(), &[]));
    first.hear("session with 127.0.0.1");
    let mut second = Running::start(forward_to(&device, &mosquitto.url(), &[]));
    second.hear("standing by");
    enqueue(&device.open_writer(), numbered("weather/roof", 0..1));
    assert_eq!(subscriber.take(1)[0].text(), "0");
    first.signal("KILL");
    second.hear("forwarding from row");
    enqueue(&device.open_writer(), numbered("weather/roof", 1..2));
    let last = std::iter::from_fn(|| subscriber.next(crate::device::SOON)).find(|message| message.text() == "1");
    assert!(last.is_some(), "the second one sends nothing");
    second.signal("TERM");
    assert_eq!(second.wait().0.code(), Some(0));
}

#[test]
fn a_drain_that_stands_by_ends_when_the_other_one_has_sent_everything() {
    let (device, mosquitto) = (device([]), Mosquitto::start());
    let mut other = Running::start(forward_to(&device, &mosquitto.url(), &[]));
    other.hear("session with 127.0.0.1");
    mosquitto.signal("STOP");
    enqueue(&device.open_writer(), numbered("weather/roof", 0..10));
    let mut drain = Running::start(forward_to(&device, &mosquitto.url(), &["--drain"]));
    drain.hear("standing by");
    mosquitto.signal("CONT");
    assert_eq!(drain.wait().0.code(), Some(0));
    assert_eq!(pending(&device), 0);
}

#[test]
fn a_drain_that_stands_by_tells_why_the_other_one_does_not_send() {
    let (mosquitto, strict) = (particular(), Mosquitto::start_with(&["allow_anonymous false"]));
    for (url, told, words) in [
        (mosquitto.url(), "closed topic", "closed topic \"closed/roof\": not authorised"),
        (strict.url(), "no session with the broker", "the broker refuses: the broker does not allow this client"),
    ] {
        let device = device(numbered("closed/roof", 0..2));
        let mut other = Running::start(forward_to(&device, &url, &[]));
        other.hear(told);
        let said = ran(forward_to(&device, &mosquitto.url(), &["--drain", "--timeout", "2"])).refused(3);
        let process = format!("standing by, for process {} has the database: ", other.child.id());
        assert!(said.contains(&process) && said.contains(words), "{said}");
    }
}

#[test]
fn what_is_committed_while_it_runs_is_sent() {
    let (device, mosquitto) = (device([]), Mosquitto::start());
    let subscriber = mosquitto.subscribe("#");
    let forwarder = Running::start(forward_to(&device, &mosquitto.url(), &[]));
    let sql = device.sql();
    for number in 0..3 {
        sql.execute("INSERT INTO outbox (topic, payload) VALUES ('weather/roof', ?1)", [number.to_string()]).unwrap();
        assert_eq!(subscriber.take(1)[0].text(), number.to_string());
    }
    eventually("all is written down", || pending(&device) == 0);
    forwarder.signal("INT");
    assert_eq!(forwarder.wait().0.code(), Some(0));
}

#[test]
fn a_mistyped_path_creates_nothing_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.db");
    let said = run(["forward".as_ref(), path.as_os_str(), "--to=mqtt://localhost".as_ref()]).refused(1);
    assert!(said.contains("missing.db does not exist") && said.contains("edge-outbox init"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
