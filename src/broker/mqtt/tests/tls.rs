//! TLS from end to end: a real mosquitto, certificates made on the spot.

use std::path::PathBuf;

use super::authority::{Authority, Leaf};
use super::mosquitto::Mosquitto;
use super::*;
use crate::QoS;
use crate::broker::mqtt::{Protocol, TlsSettings};

struct House {
    broker: Mosquitto,
    authority: Authority,
    ca_file: PathBuf,
}

impl House {
    /// A broker that shows `leaf`; the `lines` are about its listener for TLS.
    fn new(leaf: Leaf, lines: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("the house");
        let ca_file = authority.write_ca(folder.path());
        authority.issue(leaf, folder.path());
        let lines = [&["certfile server.pem", "keyfile server.key", "cafile ca.pem"], lines].concat();
        House { broker: Mosquitto::start_tls(folder, &lines), authority, ca_file }
    }

    fn tls(&self) -> TlsSettings {
        TlsSettings::new().with_ca_file(&self.ca_file)
    }

    fn settings(&self, tls: TlsSettings) -> MqttSettings {
        settings(self.broker.tls_port()).with_tls(tls)
    }
}

fn server() -> Leaf {
    Leaf::server(["localhost", "127.0.0.1"])
}

fn down_of(settings: MqttSettings) -> Down {
    let mut forwarder = Forwarder::new(settings);
    forwarder.connect();
    forwarder.wait_down()
}

#[track_caller]
fn assert_refused(down: &Down, word: &str) {
    assert!(matches!(down, Down::Refused(_)), "{down:?}");
    assert!(words(down).contains(word), "{}", words(down));
}

#[test]
fn messages_of_every_size_and_qos_arrive_by_tls() {
    let house = House::new(server(), &[]);
    let subscriber = house.broker.subscribe("#");
    for protocol in [Protocol::V5, Protocol::V311] {
        let mut forwarder = Forwarder::up(house.settings(house.tls()).with_protocol(protocol));
        let sizes = [0, 1, 1_000, 16_384, 100_000, 2_000_000];
        let message = |row: i64| {
            let size = sizes[row as usize % sizes.len()];
            Message::new("t", vec![row as u8; size]).with_qos(QoS::from_level((row % 3) as u8).unwrap())
        };
        forwarder.send((1..=60).map(|row| (row, message(row))));
        forwarder.wait_settled(60);
        assert_eq!(forwarder.count(&Outcome::Acknowledged), 60);
        let mut received: Vec<_> = subscriber.take(60).iter().map(|one| one.payload.clone()).collect();
        received.sort_unstable();
        let mut sent: Vec<_> = (1..=60).map(|row| message(row).payload.into_bytes()).collect();
        sent.sort_unstable();
        assert!(received == sent);
        forwarder.broker.disconnect(Instant::now() + PATIENCE);
        forwarder.wait_down();
    }
}

#[test]
fn a_client_certificate_opens_the_door_and_without_one_it_is_named_as_missing() {
    let house = House::new(server(), &["require_certificate true", "use_identity_as_username true"]);
    assert_refused(&down_of(house.settings(house.tls())), "client certificate");

    let folder = tempfile::tempdir().unwrap();
    let client = house.authority.issue(Leaf::client("roof"), folder.path());
    let tls = house.tls().with_client_certificate(&client.certificate_file, &client.key_file);
    let mut forwarder = Forwarder::up(house.settings(tls));
    forwarder.send([(1, Message::text("t", "1"))]);
    forwarder.wait_settled(1);
    assert_eq!(forwarder.outcome(1), &Outcome::Acknowledged);
}

#[test]
fn each_mistake_with_certificates_has_its_own_words() {
    let house = House::new(server(), &[]);
    let stranger = tempfile::tempdir().unwrap();
    let other = Authority::new("another house").write_ca(stranger.path());
    assert_refused(&down_of(house.settings(TlsSettings::new().with_ca_file(other))), "ca_file");
    assert_refused(&down_of(house.settings(TlsSettings::new())), "ca_file"); // the system's do not know us
    assert_refused(&down_of(house.settings(house.tls().with_server_name("roof.example"))), "roof.example");
    assert_refused(&down_of(house.settings(house.tls().with_ca_file("/no/such/file.pem"))), "/no/such/file.pem");

    let expired = House::new(server().expired(), &[]);
    assert_refused(&down_of(expired.settings(expired.tls())), "expired");
}

/// A device whose clock was never set finds every certificate so, and comes through once its clock is right.
#[test]
fn a_certificate_that_is_not_yet_valid_is_tried_again_soon() {
    let house = House::new(server().not_yet_valid(), &[]);
    let down = down_of(house.settings(house.tls()));
    assert!(matches!(down, Down::Unreachable(_)), "{down:?}");
    assert!(words(&down).contains("not valid before") && words(&down).contains("clock"), "{}", words(&down));
}

#[test]
fn a_port_for_the_other_kind_of_connection_is_named_as_the_cause() {
    let house = House::new(server(), &[]);
    let tls_to_plain = down_of(settings(house.broker.port()).with_tls(house.tls()));
    assert!(words(&tls_to_plain).contains("plain MQTT"), "{}", words(&tls_to_plain));
    let plain_to_tls = down_of(settings(house.broker.tls_port()));
    assert!(words(&plain_to_tls).contains("mqtts://"), "{}", words(&plain_to_tls));
}

#[test]
fn the_last_will_stays_unsaid_when_a_tls_session_ends_politely_or_at_once() {
    let house = House::new(server(), &[]);
    let subscriber = house.broker.subscribe("#");
    let will = crate::broker::LastWill::text("will", "gone");
    for patience in [PATIENCE, Duration::ZERO] {
        let mut forwarder = Forwarder::up(house.settings(house.tls()).with_last_will(will.clone()));
        forwarder.broker.disconnect(Instant::now() + patience);
        forwarder.wait_down();
    }
    let mut last = Forwarder::up(settings(house.broker.port()));
    last.send([(1, Message::text("t", "the last"))]);
    assert!(subscriber.until(b"the last").is_empty());
}
