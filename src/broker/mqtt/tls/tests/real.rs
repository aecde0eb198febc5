//! Against mosquitto, in the way a session goes: a handshake, a CONNECT, and then whatever the broker says.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::*;
use crate::broker::mqtt::tests::mosquitto::Mosquitto;

/// CONNECT of MQTT 3.1.1, clean, with the client id `a`.
const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";
const CONNACK: [u8; 4] = [0x20, 0x02, 0x00, 0x00];

impl House {
    /// A broker that shows `leaf`; the `lines` are about its listener for TLS.
    fn mosquitto(self, leaf: Leaf, lines: &[&str]) -> (Mosquitto, PathBuf) {
        self.issue(leaf);
        let lines = [&["certfile server.pem", "keyfile server.key", "cafile ca.pem"], lines].concat();
        let ca_file = self.ca_file.clone();
        (Mosquitto::start_tls(self.folder, &lines), ca_file)
    }
}

/// What comes back from a session up to its CONNACK.
fn session(trust: &Trust, port: u16) -> Result<(), Down> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut connection = trust.connection()?;
    connection.writer().write_all(CONNECT).unwrap();
    let mut answer = Vec::new();
    while answer.len() < CONNACK.len() {
        // a broker that does not want us may have hung up already; what it said first is still there to be read
        while connection.wants_write() && connection.write_tls(&mut socket).is_ok() {}
        match connection.read_tls(&mut socket) {
            Ok(0) => return Err(trust.closed(&connection, None)),
            Ok(_) => {}
            Err(error) => return Err(trust.closed(&connection, Some(error))),
        }
        connection.process_new_packets().map_err(|error| trust.failed(&connection, error))?;
        let mut chunk = [0; 16];
        if let Ok(count) = connection.reader().read(&mut chunk) {
            answer.extend_from_slice(&chunk[..count]);
        }
    }
    assert_eq!(answer, CONNACK);
    Ok(())
}

/// The same trust, but TLS 1.2 at most.
fn older(mut trust: Trust, ca_file: &Path) -> Trust {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(super::super::files::authorities(ca_file).unwrap())
        .with_client_cert_resolver(Arc::clone(&trust.identity) as Arc<dyn ResolvesClientCert>);
    trust.config = Arc::new(config);
    trust
}

#[test]
fn mosquitto_takes_a_session_by_name_and_by_address() {
    let (broker, ca_file) = House::new().mosquitto(Leaf::server(["localhost", "127.0.0.1"]), &[]);
    let settings = TlsSettings { ca_file: Some(ca_file.clone()), ..TlsSettings::default() };
    for host in ["localhost", "127.0.0.1"] {
        session(&prepared(&settings, host), broker.tls_port()).unwrap();
        session(&older(prepared(&settings, host), &ca_file), broker.tls_port()).unwrap();
    }
}

#[test]
fn mosquitto_that_wants_a_client_certificate_gets_it_or_is_understood() {
    let house = House::new();
    let good = house.issue(Leaf::client("gateway"));
    let with = house.settings_with(&good);
    let without = house.settings();
    let stranger = tempfile::tempdir().unwrap();
    let strange = house.settings_with(&Authority::new("somebody else").issue(Leaf::client("gateway"), stranger.path()));
    let stale = tempfile::tempdir().unwrap();
    let stale_settings = house.settings_with(&house.authority.issue(Leaf::client("gateway").expired(), stale.path()));
    let (broker, ca_file) = house.mosquitto(Leaf::server(["localhost"]), &["require_certificate true"]);
    let port = broker.tls_port();

    let versions = [|trust, _: &Path| trust, |trust, ca_file: &Path| older(trust, ca_file)];
    for version in versions {
        let try_with = |settings| session(&version(prepared(settings, "localhost"), &ca_file), port);
        try_with(&with).unwrap();
        says(&refused(try_with(&without).unwrap_err()), &["the broker wants a client certificate"]);
        says(&refused(try_with(&strange).unwrap_err()), &["does not know the authority behind", "client.pem"]);
        says(&refused(try_with(&stale_settings).unwrap_err()), &["has expired", "client.pem"]);
    }
}

#[test]
fn mosquitto_with_a_wrong_certificate_is_not_trusted() {
    let (broker, ca_file) = House::new().mosquitto(Leaf::server(["localhost"]).expired(), &[]);
    let settings = TlsSettings { ca_file: Some(ca_file), ..TlsSettings::default() };
    let text = refused(session(&prepared(&settings, "localhost"), broker.tls_port()).unwrap_err());
    says(&text, &["expired at 2001-01-01"]);
}

#[test]
fn a_port_for_plain_mqtt_is_suspected() {
    let broker = Mosquitto::start();
    let trust = House::new().trust("localhost");
    says(
        &unreachable(session(&trust, broker.port()).unwrap_err()),
        &["does this port speak plain MQTT (usually 1883)"],
    );
}
