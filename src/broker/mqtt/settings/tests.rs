//! The settings as a whole: built, read by serde and from a URL, and checked. The files of credentials are real ones.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::broker::Mqtt;
use crate::{Payload, QoS};

fn told(settings: &MqttSettings) -> Vec<String> {
    match settings.check() {
        Ok(()) => Vec::new(),
        Err(Error::Settings(wrong)) => wrong,
        Err(other) => panic!("{other:?}"),
    }
}

/// One mistake, and these words in it.
fn assert_told(settings: &MqttSettings, parts: &[&str]) {
    let wrong = told(settings);
    assert!(wrong.len() == 1 && parts.iter().all(|part| wrong[0].contains(part)), "{parts:?} wanted, told: {wrong:#?}");
}

#[test]
fn the_builder_sets_every_field() {
    let built = MqttSettings::new("broker.example")
        .with_port(8884)
        .with_protocol(Protocol::V311)
        .with_client_id("roof")
        .with_user("anna")
        .with_password("s3cret")
        .with_user_file("/u")
        .with_password_file("/p")
        .with_tls(
            TlsSettings::new().with_ca_file("/ca").with_client_certificate("/cert", "/key").with_server_name("inside"),
        )
        .with_last_will(LastWill::new("status", [0xff]).with_qos(QoS::ExactlyOnce).retained())
        .with_keep_alive(Duration::from_secs(7))
        .with_connect_timeout(Duration::from_secs(8))
        .with_window(9);
    let written = MqttSettings {
        host: "broker.example".to_owned(),
        port: Some(8884),
        protocol: Protocol::V311,
        client_id: Some("roof".to_owned()),
        user: Some("anna".to_owned()),
        password: Some("s3cret".to_owned()),
        user_file: Some(PathBuf::from("/u")),
        password_file: Some(PathBuf::from("/p")),
        tls: Some(TlsSettings {
            ca_file: Some(PathBuf::from("/ca")),
            certificate_file: Some(PathBuf::from("/cert")),
            key_file: Some(PathBuf::from("/key")),
            server_name: Some("inside".to_owned()),
        }),
        last_will: Some(LastWill {
            topic: "status".to_owned(),
            payload: Payload::Bytes(vec![0xff]),
            qos: QoS::ExactlyOnce,
            retain: true,
        }),
        keep_alive: Duration::from_secs(7),
        connect_timeout: Duration::from_secs(8),
        window: 9,
    };
    assert!(built == written, "{built:?}");
}

#[test]
fn serde_reads_what_the_builder_builds() {
    let read: MqttSettings = serde_json::from_str(
        r#"{
            "host": "broker.example", "port": 8884, "protocol": "3.1.1", "client_id": "roof",
            "user": "anna", "password_file": "/p", "keep_alive": "1m", "connect_timeout": "2s", "window": 20,
            "tls": { "ca_file": "/ca", "certificate_file": "/cert", "key_file": "/key", "server_name": "inside" },
            "last_will": { "topic": "status", "payload": "lost", "qos": "exactly-once", "retain": true }
        }"#,
    )
    .unwrap();
    let built = MqttSettings::new("broker.example")
        .with_port(8884)
        .with_protocol(Protocol::V311)
        .with_client_id("roof")
        .with_user("anna")
        .with_password_file("/p")
        .with_tls(
            TlsSettings::new().with_ca_file("/ca").with_client_certificate("/cert", "/key").with_server_name("inside"),
        )
        .with_last_will(LastWill::text("status", "lost").with_qos(QoS::ExactlyOnce).retained())
        .with_keep_alive(Duration::from_secs(60))
        .with_connect_timeout(Duration::from_secs(2))
        .with_window(20);
    assert!(read == built, "{read:?}");

    let sparse: MqttSettings = serde_json::from_str(
        r#"{ "protocol": "5", "user": null, "password": null, "tls": {}, "last_will": { "topic": "status" } }"#,
    )
    .unwrap();
    let built =
        MqttSettings::new("localhost").with_tls(TlsSettings::new()).with_last_will(LastWill::text("status", ""));
    assert!(sparse == built, "{sparse:?}");
}

#[test]
fn serde_refuses_unknown_names_and_durations_without_a_unit() {
    for json in [
        r#"{ "hots": "broker.example" }"#,
        r#"{ "url": "mqtt://broker.example" }"#,
        r#"{ "tls": { "ca": "/ca" } }"#,
        r#"{ "last_will": { "topic": "status", "retained": true } }"#,
        r#"{ "last_will": { "payload": "lost" } }"#,
        r#"{ "protocol": "4" }"#,
        r#"{ "keep_alive": 30 }"#,
    ] {
        assert!(serde_json::from_str::<MqttSettings>(json).is_err(), "{json}");
    }
}

#[test]
fn a_password_that_is_not_text_is_refused_without_being_repeated() {
    for json in [r#"{ "password": 904417 }"#, r#"{ "user": 904417 }"#, r#"{ "password": ["904417"] }"#] {
        let words = serde_json::from_str::<MqttSettings>(json).unwrap_err().to_string();
        assert!(words.contains("quotes") && !words.contains("904417"), "{words}");
    }
}

#[test]
fn debug_shows_neither_credentials_nor_what_the_last_will_says() {
    let settings = MqttSettings::new("host").with_user("anna").with_password("s3cret");
    let broker = Mqtt::new(settings.with_last_will(LastWill::text("status", "g00dbye"))).unwrap();
    let shown = format!("{broker:?}");
    assert!(shown.contains("status"), "{shown}");
    assert!(["anna", "s3cret", "g00dbye"].iter().all(|secret| !shown.contains(secret)), "{shown}");
    let shown = format!("{:?}", MqttSettings::new("host").with_user("anna").with_password("s3cret").credentials());
    assert!(!shown.contains("anna") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn all_mistakes_are_told_at_once_and_no_secret_with_them() {
    let settings = MqttSettings::new("")
        .with_port(0)
        .with_client_id("")
        .with_user("an\0na")
        .with_user_file("/run/user")
        .with_password("s3cret".repeat(20_000))
        .with_password_file("")
        .with_last_will(LastWill::new("status/#", vec![0; 65_536]))
        .with_keep_alive(Duration::from_secs(4))
        .with_connect_timeout(Duration::from_secs(601))
        .with_window(0);
    let wrong = told(&settings);
    let begins = [
        "host is not",
        "port is 0",
        "client_id is 0 bytes",
        "user is 5 bytes",
        "password is 120000 bytes",
        "user and user_file",
        "password_file is empty",
        "password and password_file",
        "last_will.topic holds '#'",
        "last_will.payload is 65536 bytes",
        "keep_alive is 4s",
        "connect_timeout is 601s",
        "window is 0",
    ];
    assert_eq!(wrong.len(), begins.len(), "{wrong:#?}");
    for (words, begin) in wrong.iter().zip(begins) {
        assert!(words.starts_with(begin), "{begin:?} expected, told: {words}");
        assert!(!words.contains("s3cret"), "{words}");
    }
}

#[test]
fn a_host_is_a_name_or_an_address_and_nothing_more() {
    for host in ["localhost", "broker.example.", "my_broker", "192.0.2.1", "::1", "[::1]", "fe80::1%eth0"] {
        assert!(told(&MqttSettings::new(host)).is_empty(), "{host}");
    }
    for host in ["", "broker:1883", "mqtt://broker", "user@broker", "[broker]", "[::1", "::1]", "a b", "[::1]:1883"] {
        assert_told(&MqttSettings::new(host), &["host", "settings of their own"]);
    }
}

#[test]
fn an_ipv6_address_is_a_host_with_and_without_brackets() {
    let (bare, bracketed) = (MqttSettings::new("::1"), MqttSettings::new("[::1]"));
    assert_eq!((bare.bare_host(), bracketed.bare_host()), ("::1", "::1"));
}

#[test]
fn a_password_may_go_without_a_user_in_mqtt_5_alone() {
    for token in [MqttSettings::new("b").with_password("t"), MqttSettings::new("b").with_password_file("/t")] {
        assert!(told(&token).is_empty());
        assert_told(&token.clone().with_protocol(Protocol::V311), &["without a user", "MQTT 3.1.1"]);
        assert!(told(&token.with_protocol(Protocol::V311).with_user_file("/u")).is_empty());
    }
}

#[test]
fn a_last_will_has_room_for_what_mqtt_carries() {
    let settings = |topic: &str, size| MqttSettings::new("b").with_last_will(LastWill::new(topic, vec![0; size]));
    assert!(told(&settings("status", 65_535)).is_empty());
    assert_told(&settings("status", 65_536), &["last_will.payload"]);
    assert_told(&settings("", 0), &["last_will.topic", "0 bytes"]);
    assert_told(&settings("status/+", 0), &["last_will.topic", "'+'"]);
}

#[cfg(feature = "tls")]
#[test]
fn what_tls_needs_is_checked() {
    let with = |tls| MqttSettings::new("broker.example").with_tls(tls);
    assert!(told(&with(TlsSettings::new())).is_empty());
    let half = TlsSettings { certificate_file: Some("/cert".into()), ..TlsSettings::new() };
    assert_told(&with(half), &["tls.key_file is not", "both"]);
    let half = TlsSettings { key_file: Some("/key".into()), ..TlsSettings::new() };
    assert_told(&with(half), &["tls.certificate_file is not", "both"]);
    assert_told(&with(TlsSettings::new().with_ca_file("")), &["tls.ca_file is empty"]);

    for name in ["inside", "192.0.2.1", "::1"] {
        assert!(told(&with(TlsSettings::new().with_server_name(name))).is_empty(), "{name}");
    }
    for name in ["", "[::1]", "broker:8883", "mqtts://broker", "a b"] {
        assert_told(&with(TlsSettings::new().with_server_name(name)), &["tls.server_name"]);
    }
    assert!(told(&MqttSettings::new("[::1]").with_tls(TlsSettings::new())).is_empty());
    let zoned = MqttSettings::new("fe80::1%eth0");
    assert_told(&zoned.clone().with_tls(TlsSettings::new()), &["host", "say in tls.server_name"]);
    assert!(told(&zoned.with_tls(TlsSettings::new().with_server_name("broker"))).is_empty());
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_says_that_it_has_none() {
    assert_told(&MqttSettings::new("b").with_tls(TlsSettings::new()), &["tls", "without the feature `tls`"]);
    assert!(matches!(MqttSettings::from_url("mqtts://b"), Err(Error::Settings(wrong)) if wrong.len() == 1));
}

fn from_files(user: &Path, password: &Path) -> MqttSettings {
    MqttSettings::new("b").with_user_file(user).with_password_file(password)
}

fn login(settings: &MqttSettings) -> (Option<String>, Option<String>) {
    let credentials = settings.credentials().unwrap();
    (credentials.user, credentials.password)
}

fn some(user: &str, password: &str) -> (Option<String>, Option<String>) {
    (Some(user.to_owned()), Some(password.to_owned()))
}

#[test]
fn credentials_come_from_the_settings_or_from_files_and_each_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "s3cret").unwrap();
    assert_eq!(login(&MqttSettings::new("b")), (None, None));
    assert_eq!(login(&MqttSettings::new("b").with_user("anna").with_password("known")), some("anna", "known"));
    assert_eq!(login(&MqttSettings::new("b").with_user("anna").with_password_file(&file)), some("anna", "s3cret"));
}

#[test]
fn a_file_of_credentials_is_read_anew_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let (user, password) = (folder.path().join("user"), folder.path().join("password"));
    let settings = from_files(&user, &password);
    settings.check().expect("that files are not there yet is no mistake");
    assert!(settings.credentials().is_err());

    fs::write(&user, "anna\n").unwrap();
    fs::write(&password, "first\n").unwrap();
    assert_eq!(login(&settings), some("anna", "first"));

    let next = folder.path().join("next");
    fs::write(&next, "second\n").unwrap();
    fs::rename(&next, &password).unwrap();
    assert_eq!(login(&settings), some("anna", "second"));
}

#[test]
fn one_newline_is_cut_off_a_file_of_credentials_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let settings = MqttSettings::new("b").with_password_file(&file);
    for (content, password) in [
        ("s3cret", "s3cret"),
        ("s3cret\n", "s3cret"),
        ("s3cret\r\n", "s3cret"),
        ("s3cret\r", "s3cret\r"),
        ("s3cret\n\n", "s3cret\n"),
        (" s3 cret \n", " s3 cret "),
        ("pässword", "pässword"),
    ] {
        fs::write(&file, content).unwrap();
        assert_eq!(settings.credentials().unwrap().password.as_deref(), Some(password));
    }
    let longest = "x".repeat(65_535);
    fs::write(&file, format!("{longest}\r\n")).unwrap();
    assert!(settings.credentials().unwrap().password == Some(longest));
}

#[test]
fn a_file_that_holds_no_credentials_is_told_with_its_path_and_not_with_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let settings = MqttSettings::new("b").with_user("anna").with_password_file(&file);
    let refused = |content: &[u8], part: &str| {
        fs::write(&file, content).unwrap();
        let words = settings.credentials().unwrap_err();
        assert!(words.starts_with(&format!("password_file {}", file.display())), "{words}");
        assert!(words.contains(part) && !words.contains("s3cret") && !words.contains("anna"), "{words}");
    };
    refused(b"", "is empty");
    refused(b"\r\n", "is empty");
    refused(b"s3cret\xff", "UTF-8");
    refused(b"s3cret\0", "NUL");
    refused(&[b"s3cret".as_slice(), &[b'x'; 65_530]].concat(), "too long");
    fs::remove_file(&file).unwrap();
    assert!(settings.credentials().unwrap_err().ends_with("cannot be read: entity not found"));
}

/// A gigabyte here, a device without end elsewhere: neither may be taken into memory, nor be waited for.
#[test]
fn only_as_much_of_a_file_is_read_as_credentials_can_be_long() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    let words = MqttSettings::new("b").with_password_file(&file).credentials().unwrap_err();
    assert!(words.contains("too long"), "{words}");
    for path in [Path::new("/dev/zero"), folder.path()] {
        let words = MqttSettings::new("b").with_password_file(path).credentials().unwrap_err();
        assert!(words.contains("is not a file"), "{words}");
    }
}

#[test]
fn the_protocol_is_read_as_people_write_it() {
    let read = |text: &str| serde_json::from_str::<MqttSettings>(&format!("{{\"protocol\": {text}}}"));
    for (text, protocol) in [("\"5\"", Protocol::V5), ("5", Protocol::V5), ("\"3.1.1\"", Protocol::V311)] {
        assert_eq!(read(text).unwrap().protocol, protocol, "{text}");
    }
    for text in ["4", "3.1", "\"3\"", "null", "[5]"] {
        let words = read(text).unwrap_err().to_string();
        assert!(words.contains("\"3.1.1\""), "{text}: {words}");
    }
}
