//! Topics that the broker closed to us wait, cost nothing, and go by themselves once they are open again.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::Mqtt;
use edge_outbox::{Backoff, LinkState, Message, Ordering, Outbox, QoS, Settings};

use crate::device::{Device, SOON, broker, enqueue, quick, take};
use crate::mosquitto::Mosquitto;
use crate::mqtt::journal;
use crate::proxy::Proxy;
use crate::scripted::{Cut, Manner, Reaction, Script, Scripted};

fn to(topic: &str, qos: QoS, count: usize) -> impl Iterator<Item = Message> {
    (0..count).map(move |n| Message::text(topic, format!("{topic} {n}")).with_qos(qos))
}

/// Rows that are PENDING, and attempts charged to them in all.
fn pending(device: &Device) -> (i64, i64) {
    let query = "SELECT count(*), ifnull(sum(attempts), 0) FROM outbox WHERE status = 'PENDING'";
    device.sql().query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

fn closed(outbox: &Outbox) -> Vec<String> {
    outbox.status().closed_topics.into_iter().map(|closed| closed.topic).collect()
}

#[track_caller]
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// In strict order the lane of a key whose first message goes to a closed topic waits as a whole, and in order.
#[test]
fn an_access_list_that_was_wrong_charges_nothing_and_once_mended_everything_goes_without_a_restart() {
    journal::begin();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("acl"), "topic readwrite open/#\ntopic read shut/#\n").unwrap();
    let broker = Mosquitto::start_in(folder, &["acl_file acl"]);
    let subscriber = broker.subscribe("#");
    let (device, proxy) = (Device::new(), Proxy::to(broker.port()));
    let settings = Settings { ordering: Ordering::Strict, ..quick() };
    let outbox = device.open_with(settings, Mqtt::from_url(&format!("mqtt://127.0.0.1:{}", proxy.port())).unwrap());
    let keyed = (0..100).map(|n| {
        let topic = if n % 2 == 0 { "shut/keyed" } else { "open/keyed" };
        Message::text(topic, format!("keyed {n}")).with_key("k")
    });
    enqueue(&outbox, to("shut/1", QoS::AtLeastOnce, 50).chain(to("shut/2", QoS::ExactlyOnce, 50)).chain(keyed));
    enqueue(&outbox, to("open/1", QoS::AtLeastOnce, 50));
    wait_for("the closed topics", || closed(&outbox) == ["shut/1", "shut/2", "shut/keyed"]);
    wait_for("what may go", || pending(&device).0 == 200);
    let refused = proxy.traffic().published.len();
    proxy.wait_for("topics tried again", |traffic| (traffic.published.len() > refused + 5).then_some(()));
    assert_eq!(pending(&device), (200, 0));
    assert_eq!(outbox.stats().unwrap().reconnects, 0);
    assert!(journal::says(&["closed topic", "\"shut/keyed\"", "not authorised"]), "{:#?}", journal::lines());

    fs::write(broker.folder().join("acl"), "topic readwrite #\n").unwrap();
    broker.signal("HUP");
    outbox.flush(SOON).unwrap();
    assert_eq!(outbox.failed(0, 10).unwrap(), []);
    assert_eq!((pending(&device).0, outbox.stats().unwrap().reconnects), (0, 0));
    wait_for("no closed topic in the status", || closed(&outbox).is_empty());
    assert!(journal::says(&["\"shut/keyed\" is open again"]), "{:#?}", journal::lines());
    let received = subscriber.take(250);
    let keyed: Vec<&str> = received.iter().map(|one| one.text()).filter(|text| text.starts_with("keyed")).collect();
    assert_eq!(keyed, (0..100).map(|n| format!("keyed {n}")).collect::<Vec<_>>());
}

/// The session stands, and a refusal of the client would be something else.
#[test]
fn where_every_topic_is_closed_the_link_says_so_until_one_is_sent_to() {
    let (device, long) = (Device::new(), Duration::from_secs(3_600));
    let (broker, everything) = broker();
    broker.close_topic("shut/#", "not for you").unwrap();
    let settings = Settings { reconnect: Backoff { first: long, longest: long }, ..quick() };
    let outbox = device.open_with(settings, broker.clone());
    enqueue(&outbox, to("shut/1", QoS::AtLeastOnce, 2).chain(to("shut/2", QoS::AtLeastOnce, 2)));
    let all_closed = || match outbox.status().link {
        LinkState::TopicsClosed { since, next_try } => Some((since, next_try)),
        _ => None,
    };
    wait_for("all are closed", || all_closed().is_some() && closed(&outbox).len() == 2);
    let (since, next_try) = all_closed().unwrap();
    assert!(since <= Instant::now() && next_try > since + long / 4, "{since:?} {next_try:?}");

    enqueue(&outbox, to("open", QoS::AtLeastOnce, 1));
    assert_eq!(take(&everything), "open 0");
    wait_for("something was sent", || outbox.status().link == LinkState::Up);
    enqueue(&outbox, to("shut/3", QoS::AtLeastOnce, 1));
    wait_for("the third", || closed(&outbox).len() == 3);
    assert_eq!(outbox.status().link, LinkState::Up);

    // an hour before their time
    broker.open_topic("shut/#").unwrap();
    outbox.resume().unwrap();
    let mut late: Vec<String> = (0..5).map(|_| take(&everything)).collect();
    late.sort();
    assert_eq!(late, ["shut/1 0", "shut/1 1", "shut/2 0", "shut/2 1", "shut/3 0"]);
    wait_for("all are open", || closed(&outbox).is_empty());
}

#[test]
fn messages_above_the_brokers_maximum_qos_wait_as_a_closed_topic_until_it_takes_them() {
    let broker = Scripted::start(Script { maximum_qos: Some(1), ..Script::default() });
    let device = Device::new();
    let outbox = device.open(Mqtt::from_url(&format!("mqtt://127.0.0.1:{}", broker.port())).unwrap());
    enqueue(&outbox, to("exact", QoS::ExactlyOnce, 30).chain(to("plain", QoS::AtLeastOnce, 30)));
    broker.wait_for("what the broker takes", |record| record.acknowledged.len() == 30);
    wait_for("the closed topic", || closed(&outbox) == ["exact"]);
    wait_for("what may go", || pending(&device).0 == 30);
    assert_eq!(pending(&device), (30, 0));
    let reason = &outbox.status().closed_topics[0].reason;
    assert!(reason.contains("QoS 2 is above the broker's maximum, 1"), "{reason}");
    // the broker would have ended the session for it
    assert_eq!(broker.record().sessions, 1);

    // a new session is needed to hear of it, as after a restart of the broker
    broker.rewrite(|script| {
        script.maximum_qos = None;
        script.judge = Box::new({
            let mut cuts = 1..;
            move |_| if cuts.next() == Some(1) { Reaction::Cut(Cut::at_once(Manner::Polite)) } else { Reaction::Take }
        });
    });
    enqueue(&outbox, to("plain", QoS::AtLeastOnce, 1));
    outbox.flush(SOON).unwrap();
    assert_eq!(outbox.failed(0, 10).unwrap(), []);
    let exact: BTreeSet<usize> = broker.record().published.iter().filter(|p| p.qos == 2).map(|p| p.session).collect();
    assert_eq!(exact, BTreeSet::from([2]), "sent in a session that took no QoS 2");
    assert_eq!(broker.record().acknowledged.len(), 61);
}
