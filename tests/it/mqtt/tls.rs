//! TLS, as the user of an outbox sees it: certificates made on the spot, and what status and log say of bad ones.

use std::fs;
use std::path::PathBuf;

use edge_outbox::broker::{MqttSettings, TlsSettings};
use edge_outbox::{LinkState, QoS};

use super::{House, PROTOCOLS, assert_in_order, at, journal, numbered, quick, until_all};
use crate::authority::{Authority, Leaf};
use crate::mosquitto::{Mosquitto, Received};

/// A broker with a certificate, and who signed it.
struct Fortress {
    broker: Mosquitto,
    authority: Authority,
    ca_file: PathBuf,
}

impl Fortress {
    /// Its broker shows `leaf`; the `lines` are about its listener for TLS.
    fn new(leaf: Leaf, lines: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("the fortress");
        let ca_file = authority.write_ca(folder.path());
        authority.issue(leaf, folder.path());
        let lines = [&["certfile server.pem", "keyfile server.key", "cafile ca.pem"], lines].concat();
        Fortress { broker: Mosquitto::start_tls(folder, &lines), authority, ca_file }
    }

    fn tls(&self) -> TlsSettings {
        TlsSettings::new().with_ca_file(&self.ca_file)
    }

    fn client(&self, tls: TlsSettings) -> MqttSettings {
        at(self.broker.tls_port()).with_tls(tls)
    }
}

fn server() -> Leaf {
    Leaf::server(["localhost", "127.0.0.1"])
}

#[test]
fn messages_of_every_qos_pass_by_tls_with_a_client_certificate() {
    let fortress = Fortress::new(server(), &["require_certificate true"]);
    let subscriber = fortress.broker.subscribe("#");
    let client = fortress.authority.issue(Leaf::client("roof"), fortress.broker.folder());
    let tls = fortress.tls().with_client_certificate(&client.certificate_file, &client.key_file);
    for protocol in PROTOCOLS {
        let house = House::new(fortress.client(tls.clone()).with_protocol(protocol), quick());
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            house.enqueue(numbered(0..500).map(|message| message.with_qos(qos)));
            house.flush();
            assert_in_order(subscriber.take(500).iter().map(Received::text), 1);
        }
        assert_eq!(house.outbox.stats().unwrap().reconnects, 0);
    }
}

/// What the broker's or the client's certificate is, what status and log must say of it, and whether somebody has to
/// mend it. The device's clock is one that may mend itself.
#[test]
fn each_mistake_with_certificates_has_its_words_in_status_and_log() {
    journal::begin();
    let fortress = Fortress::new(server(), &[]);
    let expired = Fortress::new(server().expired(), &[]);
    let early = Fortress::new(server().not_yet_valid(), &[]);
    let picky = Fortress::new(server(), &["require_certificate true"]);
    let strange = tempfile::tempdir().unwrap();
    let strange = Authority::new("somebody else").write_ca(strange.path());
    let strange_path = strange.display().to_string();

    let cases: [(MqttSettings, bool, &[&str]); 7] = [
        (fortress.client(TlsSettings::new().with_ca_file(&strange)), true, &["none of the authorities", &strange_path]),
        (fortress.client(fortress.tls().with_server_name("roof.example")), true, &["is not for roof.example"]),
        (expired.client(expired.tls()), true, &["expired at 2001-01-01"]),
        (early.client(early.tls()), false, &["not valid before 3000-01-01", "is the clock set?"]),
        (picky.client(picky.tls()), true, &["client certificate", "certificate_file and key_file"]),
        (at(fortress.broker.port()).with_tls(fortress.tls()), false, &["does this port speak plain MQTT"]),
        (at(fortress.broker.tls_port()), false, &["mqtts://"]),
    ];
    for (client, is_refused, words) in cases {
        let house = House::new(client, quick());
        house.enqueue(numbered(0..10));
        let why = house.wait_for_words(words[0]);
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
        let link = house.outbox.status().link;
        assert_eq!(matches!(link, LinkState::Refused { .. }), is_refused, "{link:?}");
        assert!(journal::says(words), "{words:?} in {:#?}", journal::lines());
        assert_eq!((house.rows("PENDING"), house.outbox.stats().unwrap().pending), (10, 10));
    }
}

/// The authority's file is not the right one, then the client's certificate is not there: each is mended where it lies.
#[test]
fn a_backlog_waits_for_the_right_certificates_and_goes_without_a_restart() {
    journal::begin();
    for protocol in PROTOCOLS {
        let fortress = Fortress::new(server(), &["require_certificate true"]);
        let subscriber = fortress.broker.subscribe("#");
        let own = tempfile::tempdir().unwrap();
        let ca_file = Authority::new("somebody else").write_ca(own.path());
        let (certificate, key) = (own.path().join("client.pem"), own.path().join("client.key"));
        let tls = TlsSettings::new().with_ca_file(&ca_file).with_client_certificate(&certificate, &key);
        let house = House::new(fortress.client(tls).with_protocol(protocol), quick());
        house.enqueue(numbered(0..2_000));
        house.wait_for_words("client.pem");
        fortress.authority.issue(Leaf::client("roof"), own.path());
        house.wait_for_words("none of the authorities");
        assert_eq!((house.rows("PENDING"), house.outbox.stats().unwrap().reconnects), (2_000, 0));

        fs::copy(&fortress.ca_file, &ca_file).unwrap();
        house.flush();
        assert_eq!(house.rows("SENT"), 2_000);
        assert_in_order(until_all(&subscriber, 2_000).iter().map(Received::text), 1);
    }
}

/// Sessions that are refused spend nothing of any message, however many there are.
#[test]
fn a_link_that_is_refused_again_and_again_charges_no_message_and_heals() {
    let fortress = Fortress::new(server(), &[]);
    let folder = tempfile::tempdir().unwrap();
    let ca_file = Authority::new("somebody else").write_ca(folder.path());
    let house = House::new(fortress.client(TlsSettings::new().with_ca_file(&ca_file)), quick());
    house.enqueue(numbered(0..1_000));
    let greetings = || fortress.broker.log().matches("New connection from").count();
    let before = greetings();
    house.wait_until("thirty refusals", |_| greetings() >= before + 30);
    let charged = "SELECT count(*) FROM outbox WHERE attempts > 0 OR last_error IS NOT NULL";
    let count: i64 = house.outbox.connection().unwrap().query_row(charged, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 0);
    fs::copy(&fortress.ca_file, &ca_file).unwrap();
    house.flush();
    assert_eq!(house.rows("SENT"), 1_000);
}
