//! TLS that goes wrong: in memory against rustls, which can be made to do anything; in `real` against mosquitto, whose
//! TLS is OpenSSL's; in `files` before a word is said.

mod files;
mod real;

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, CertificateError, Error, ServerConfig, ServerConnection, SupportedProtocolVersion};
use tempfile::TempDir;

use super::*;
use crate::broker::mqtt::tests::authority::{Authority, Issued, Leaf};
use crate::error::chain;

static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

#[track_caller]
fn refused(down: Down) -> String {
    match down {
        Down::Refused(cause) => chain(&*cause),
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn unreachable(down: Down) -> String {
    match down {
        Down::Unreachable(cause) => chain(&*cause),
        other => panic!("not unreachable: {other:?}"),
    }
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// A folder with an authority in it, which everybody trusts unless a test says otherwise.
struct House {
    folder: TempDir,
    authority: Authority,
    ca_file: PathBuf,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("the house's authority");
        let ca_file = authority.write_ca(folder.path());
        House { folder, authority, ca_file }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn issue(&self, leaf: Leaf) -> Issued {
        self.authority.issue(leaf, self.path())
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings { ca_file: Some(self.ca_file.clone()), ..TlsSettings::default() }
    }

    fn settings_with(&self, own: &Issued) -> TlsSettings {
        TlsSettings {
            certificate_file: Some(own.certificate_file.clone()),
            key_file: Some(own.key_file.clone()),
            ..self.settings()
        }
    }

    /// Whom a client believes that believes the house's authority.
    fn trust(&self, host: &str) -> Trust {
        prepared(&self.settings(), host)
    }

    /// A broker that does not care who comes.
    fn server(&self, leaf: Leaf) -> ServerConfig {
        server(&self.issue(leaf), None, &BOTH)
    }
}

fn prepared(settings: &TlsSettings, host: &str) -> Trust {
    prepare(settings, host).unwrap_or_else(|down| panic!("{down:?}"))
}

/// A broker that shows `own`, and wants to see a certificate from `clients_from`.
fn server(own: &Issued, clients_from: Option<&Path>, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = match clients_from {
        Some(ca_file) => {
            let roots = super::files::authorities(ca_file).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let chain = CertificateDer::pem_file_iter(&own.certificate_file).unwrap().map(Result::unwrap).collect();
    builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(&own.key_file).unwrap()).unwrap()
}

/// Both sides talk until the client gives up, with its words, or until they have nothing more to say.
fn talk(trust: &Trust, server: ServerConfig) -> Result<ClientConnection, Down> {
    let mut client = trust.connection()?;
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        deliver(&wire, |rest| server.read_tls(rest));
        // what is wrong with us comes back as an alert
        let _ = server.process_new_packets();
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        deliver(&wire, |rest| client.read_tls(rest));
        client.process_new_packets().map_err(|error| trust.failed(&client, error))?;
    }
    assert!(!client.is_handshaking(), "the handshake ended without an end");
    Ok(client)
}

fn deliver(mut wire: &[u8], mut read: impl FnMut(&mut dyn io::Read) -> io::Result<usize>) {
    while !wire.is_empty() && read(&mut wire).unwrap() > 0 {}
}

#[track_caller]
fn trouble(trust: &Trust, server: ServerConfig) -> Down {
    talk(trust, server).expect_err("the handshake went well")
}

#[test]
fn a_broker_with_the_right_certificate_is_trusted_by_name_and_by_address() {
    let house = House::new();
    for host in ["broker.example", "127.0.0.1", "[::1]", "::1"] {
        for versions in [&BOTH[..], &[&TLS12]] {
            let own = house.issue(Leaf::server(["broker.example", "127.0.0.1", "::1"]));
            assert!(talk(&house.trust(host), server(&own, None, versions)).is_ok(), "{host} {versions:?}");
        }
    }
}

#[test]
fn server_name_outdoes_the_host() {
    let house = House::new();
    let settings = TlsSettings { server_name: Some("broker.example".to_owned()), ..house.settings() };
    assert!(talk(&prepared(&settings, "10.1.2.3"), house.server(Leaf::server(["broker.example"]))).is_ok());
}

#[test]
fn a_certificate_of_another_authority_is_refused_and_ca_file_named() {
    let (house, stranger) = (House::new(), House::new());
    let own = stranger.issue(Leaf::server(["localhost"]));
    // the same name, so that only keys can tell them apart
    let text = refused(trouble(&house.trust("localhost"), server(&own, None, &BOTH)));
    says(&text, &["names a trusted authority, but is not signed by it", "ca_file"]);

    let other = Authority::new("somebody else").issue(Leaf::server(["localhost"]), stranger.path());
    let text = refused(trouble(&house.trust("localhost"), server(&other, None, &BOTH)));
    says(&text, &["comes from none of the authorities in ca_file", house.ca_file.to_str().unwrap()]);
}

#[test]
fn without_ca_file_the_words_say_that_there_is_one_to_set() {
    let house = House::new();
    let mut trust = house.trust("localhost");
    trust.ca_file = None;
    let other = Authority::new("somebody else").issue(Leaf::server(["localhost"]), house.path());
    let text = refused(trouble(&trust, server(&other, None, &BOTH)));
    says(&text, &["no authority that this system trusts", "set ca_file"]);
}

#[test]
fn an_authority_that_shows_its_own_certificate_is_told_apart() {
    let house = House::new();
    let own = house.authority.write_as_server(house.path());
    let text = refused(trouble(&house.trust("localhost"), server(&own, None, &BOTH)));
    says(&text, &["an authority's certificate (CA:TRUE) as its own"]);
}

#[test]
fn a_certificate_for_another_host_is_refused_with_both_names() {
    let house = House::new();
    let text = refused(trouble(
        &house.trust("broker.example"),
        house.server(Leaf::server(["localhost", "127.0.0.1", "a.lan", "b.lan", "c.lan", "d.lan", "e.lan"])),
    ));
    says(&text, &["is not for broker.example, but for localhost, 127.0.0.1, a.lan, b.lan, c.lan, 2 more: "]);
    says(&text, &["set host or server_name"]);
    assert!(!text.contains("d.lan"), "{text}");

    let text = refused(trouble(&house.trust("192.0.2.1"), house.server(Leaf::server([]))));
    says(&text, &["is not for 192.0.2.1, nor for any other name", "subjectAltName"]);
}

#[test]
fn a_certificate_for_clients_is_refused() {
    let house = House::new();
    let text = refused(trouble(&house.trust("localhost"), house.server(Leaf::client("localhost"))));
    says(&text, &["is not for servers", "serverAuth"]);
}

#[test]
fn an_expired_certificate_is_refused_with_its_date_and_the_clock() {
    let house = House::new();
    let text = refused(trouble(&house.trust("localhost"), house.server(Leaf::server(["localhost"]).expired())));
    says(&text, &["expired at 2001-01-01T00:00:00Z", "this device's clock says 2"]);
}

/// What a device without a battery for its clock believes when it starts.
#[derive(Debug)]
struct Epoch;

impl TimeProvider for Epoch {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(60)))
    }
}

/// Before it.
#[derive(Debug)]
struct Never;

impl TimeProvider for Never {
    fn current_time(&self) -> Option<UnixTime> {
        None
    }
}

fn with_clock(mut trust: Trust, clock: impl TimeProvider + 'static) -> Trust {
    Arc::get_mut(&mut trust.config).expect("no connection yet").time_provider = Arc::new(clock);
    trust
}

#[test]
fn a_certificate_not_yet_valid_may_be_the_clocks_fault_and_is_tried_again_as_usual() {
    let house = House::new();
    let text =
        unreachable(trouble(&house.trust("localhost"), house.server(Leaf::server(["localhost"]).not_yet_valid())));
    says(&text, &["not valid before 3000-01-01T00:00:00Z", "this device's clock says 2", "is the clock set?"]);

    let booted = with_clock(house.trust("localhost"), Epoch);
    let text = unreachable(trouble(&booted, house.server(Leaf::server(["localhost"]))));
    says(&text, &["not valid before 1975-01-01T00:00:00Z", "this device's clock says 1970-01-01T00:01:00Z"]);

    let lost = with_clock(house.trust("localhost"), Never);
    let text = unreachable(trouble(&lost, house.server(Leaf::server(["localhost"]))));
    says(&text, &["before 1970"]);
}

#[test]
fn a_missing_client_certificate_is_said_with_both_versions_of_tls() {
    let house = House::new();
    let own = house.issue(Leaf::server(["localhost"]));
    for version in BOTH {
        let text = refused(trouble(&house.trust("localhost"), server(&own, Some(&house.ca_file), &[version])));
        says(&text, &["the broker wants a client certificate: set certificate_file and key_file"]);
    }
}

#[test]
fn a_client_certificate_is_shown_to_a_broker_that_asks() {
    let house = House::new();
    let own = house.issue(Leaf::server(["localhost"]));
    let trust = prepared(&house.settings_with(&house.issue(Leaf::client("gateway"))), "localhost");
    for version in BOTH {
        assert!(talk(&trust, server(&own, Some(&house.ca_file), &[version])).is_ok(), "{version:?}");
    }
}

#[test]
fn a_client_certificate_that_the_broker_does_not_take_is_named() {
    let (house, stranger) = (House::new(), tempfile::tempdir().unwrap());
    let own = house.issue(Leaf::server(["localhost"]));
    let elsewhere = Authority::new("somebody else").issue(Leaf::client("gateway"), stranger.path());
    let expired = house.issue(Leaf::client("gateway").expired());
    for version in BOTH {
        let trust = prepared(&house.settings_with(&elsewhere), "localhost");
        let text = refused(trouble(&trust, server(&own, Some(&house.ca_file), &[version])));
        says(&text, &["does not know the authority behind", elsewhere.certificate_file.to_str().unwrap()]);

        let trust = prepared(&house.settings_with(&expired), "localhost");
        let text = refused(trouble(&trust, server(&own, Some(&house.ca_file), &[version])));
        says(&text, &["has expired", "certificate_file", "CertificateExpired"]);
    }
}

/// Which alert a broker sends for what is a matter of its TLS.
#[test]
fn every_alert_has_its_words() {
    use AlertDescription as Alert;
    let house = House::new();
    let said = |trust: &Trust, alert| trust.failed(&trust.connection().unwrap(), Error::AlertReceived(alert));
    let about_us = [
        (Alert::HandshakeFailure, "does not accept"),
        (Alert::BadCertificate, "does not accept"),
        (Alert::CertificateUnknown, "does not accept"),
        (Alert::UnsupportedCertificate, "does not accept"),
        (Alert::UnknownCA, "does not know the authority"),
        (Alert::CertificateExpired, "has expired"),
        (Alert::CertificateRevoked, "has been revoked"),
        (Alert::AccessDenied, "does not let in"),
    ];

    let unasked = house.trust("localhost");
    says(&refused(said(&unasked, Alert::CertificateRequired)), &["wants a client certificate"]);
    says(&refused(said(&unasked, Alert::HandshakeFailure)), &["no TLS in common"]);
    says(&refused(said(&unasked, Alert::ProtocolVersion)), &["no TLS in common", "TLS 1.2 or 1.3"]);
    says(&refused(said(&unasked, Alert::UnrecognisedName)), &["the name localhost", "server_name"]);
    says(&unreachable(said(&unasked, Alert::InternalError)), &["broke TLS off", "InternalError"]);

    let asked = house.trust("localhost");
    asked.identity.resolve(&[], &[]);
    let known = prepared(&house.settings_with(&house.issue(Leaf::client("gateway"))), "localhost");
    known.identity.resolve(&[], &[]);
    for (alert, words) in about_us {
        says(&refused(said(&asked, alert)), &["wants a client certificate"]);
        says(&refused(said(&known, alert)), &[words, "client.pem"]);
    }
}

#[test]
fn what_speaks_no_tls_is_told_apart_from_a_broken_connection() {
    let house = House::new();
    let trust = house.trust("localhost");
    let mut client = trust.connection().unwrap();
    deliver(b"HTTP/1.1 400 Bad Request\r\n\r\n", |rest| client.read_tls(rest));
    let error = client.process_new_packets().unwrap_err();
    says(&refused(trust.failed(&client, error)), &["does not speak TLS", "8883"]);

    says(&unreachable(trust.failed(&client, Error::DecryptError)), &["the TLS connection to the broker broke"]);
}

#[test]
fn a_broker_that_hangs_up_without_a_word_is_asked_for_by_port_or_certificate() {
    let house = House::new();
    let reset = || Some(io::Error::from(io::ErrorKind::ConnectionReset));
    let trust = house.trust("localhost");
    let fresh = trust.connection().unwrap();
    says(&unreachable(trust.closed(&fresh, None)), &["plain MQTT (usually 1883)"]);
    says(&unreachable(trust.closed(&fresh, reset())), &["plain MQTT (usually 1883)", "connection reset"]);
    let stands = talk(&trust, house.server(Leaf::server(["localhost"]))).unwrap();
    says(&unreachable(trust.closed(&stands, None)), &["right after the TLS handshake"]);
    trust.identity.resolve(&[], &[]);
    says(&refused(trust.closed(&fresh, reset())), &["asked for a client certificate", "set certificate_file"]);

    let known = prepared(&house.settings_with(&house.issue(Leaf::client("gateway"))), "localhost");
    known.identity.resolve(&[], &[]);
    says(&unreachable(known.closed(&fresh, reset())), &["seen the certificate in", "client.pem"]);
}

#[test]
fn words_have_a_limit_and_no_control_characters() {
    let house = House::new();
    let trust = house.trust("localhost");
    let error = CertificateError::NotValidForNameContext {
        expected: ServerName::try_from("localhost").unwrap(),
        presented: vec![format!("DnsName(\"\x1b[2J{}\")", "x".repeat(60_000)); 1_000],
    };
    let text = refused(trust.failed(&trust.connection().unwrap(), Error::InvalidCertificate(error)));
    says(&text, &["\\u{1b}[2Jxxx", "995 more"]);
    assert!(text.len() < 2_000 && !text.contains('\x1b'), "{} bytes", text.len());
}
