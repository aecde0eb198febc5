//! What is wrong before anybody is connected to: every text names the setting and the path, and none quotes a file.

use std::fs;

use super::*;

fn refusal(settings: &TlsSettings) -> String {
    match prepare(settings, "localhost") {
        Ok(_) => panic!("{settings:?} will do"),
        Err(down) => {
            // as text, and as rustls quotes lines
            let quoted = ["c2VjcmV0", "99, 50, 86, 106"].iter().any(|part| format!("{down:?}").contains(part));
            assert!(!quoted, "a file is quoted: {down:?}");
            refused(down)
        }
    }
}

fn ca(path: impl Into<PathBuf>) -> TlsSettings {
    TlsSettings { ca_file: Some(path.into()), ..TlsSettings::default() }
}

#[test]
fn a_ca_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone.pem");
    says(&refusal(&ca(&gone)), &["ca_file", gone.to_str().unwrap(), "cannot be read", "No such file"]);
    says(&refusal(&ca(folder.path())), &["ca_file", "is not a file"]);
    says(&refusal(&ca("/dev/zero")), &["ca_file /dev/zero is not a file"]);

    let large = folder.path().join("large.pem");
    fs::File::create(&large).unwrap().set_len(1024 * 1024 + 1).unwrap();
    says(&refusal(&ca(&large)), &["ca_file", "larger than 1 MiB"]);
}

#[test]
fn a_ca_file_without_a_certificate_is_named() {
    let house = House::new();
    let own = house.issue(Leaf::server(["localhost"]));
    let file = house.path().join("made-up.pem");
    let cases = [
        ("", "holds no certificate in PEM form"),
        ("c2VjcmV0 is all it says", "holds no certificate in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nc2VjcmV0", "is damaged"),
        ("-----BEGIN CERTIFICATE c2VjcmV0\n", "is damaged"),
        ("-----BEGIN CERTIFICATE-----\nc2VjcmV0!\n-----END CERTIFICATE-----\n", "is damaged"),
        ("-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n", "is damaged"),
    ];
    for (text, words) in cases {
        fs::write(&file, text).unwrap();
        says(&refusal(&ca(&file)), &["ca_file", file.to_str().unwrap(), words]);
    }
    says(&refusal(&ca(&own.key_file)), &["ca_file", "server.key", "holds no certificate"]);
}

#[test]
fn one_bad_authority_among_good_ones_is_left_out() {
    let house = House::new();
    let good = fs::read_to_string(&house.ca_file).unwrap();
    fs::write(&house.ca_file, format!("-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n{good}"))
        .unwrap();
    assert!(talk(&house.trust("localhost"), house.server(Leaf::server(["localhost"]))).is_ok());
}

#[test]
fn a_system_without_authorities_is_told_what_to_do() {
    let text = refused(system(rustls_native_certs::CertificateResult::default()).unwrap_err());
    says(&text, &["no authorities to trust", "ca-certificates", "ca_file"]);
}

#[test]
fn certificate_and_key_belong_together() {
    let house = House::new();
    let one = house.issue(Leaf::client("gateway"));
    let certificate = TlsSettings { key_file: None, ..house.settings_with(&one) };
    let key = TlsSettings { certificate_file: None, ..house.settings_with(&one) };
    for half in [certificate, key] {
        says(&refusal(&half), &["certificate_file and key_file belong together"]);
    }

    let server = house.issue(Leaf::server(["localhost"]));
    let mixed = Issued { key_file: server.key_file, ..one };
    says(&refusal(&house.settings_with(&mixed)), &["server.key is not that of the first certificate", "client.pem"]);
}

#[test]
fn a_key_file_that_cannot_be_used_is_named() {
    let house = House::new();
    let own = house.issue(Leaf::client("gateway"));
    let text_of_certificate = fs::read_to_string(&own.certificate_file).unwrap();
    let pem = |kind: &str, body: &str| format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n");
    let legacy = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nc2VjcmV0";
    let cases = [
        (text_of_certificate, "holds no private key in PEM form"),
        (pem("ENCRYPTED PRIVATE KEY", "c2VjcmV0"), "is encrypted"),
        (pem("EC PRIVATE KEY", legacy), "is encrypted"),
        (pem("PRIVATE KEY", "c2VjcmV0"), "cannot be used"),
        (pem("PRIVATE KEY", "c2VjcmV0!"), "is damaged"),
        ("-----BEGIN PRIVATE KEY c2VjcmV0\n".to_owned(), "is damaged"),
    ];
    for (text, words) in cases {
        fs::write(&own.key_file, text).unwrap();
        says(&refusal(&house.settings_with(&own)), &["key_file", "client.key", words]);
    }
}

#[test]
fn files_are_read_anew_for_each_session() {
    let house = House::new();
    let server_file = house.issue(Leaf::server(["localhost"]));
    assert!(talk(&house.trust("localhost"), server(&server_file, None, &BOTH)).is_ok());
    Authority::new("somebody else").write_ca(house.path());
    refused(trouble(&house.trust("localhost"), server(&server_file, None, &BOTH)));
}

#[test]
fn a_host_that_no_certificate_can_be_for_is_refused() {
    let house = House::new();
    for host in ["brøker.example", "fe80::1%eth0", "a..b"] {
        let text = refused(prepare(&house.settings(), host).err().expect(host));
        says(&text, &["host", "set server_name"]);
    }
    let settings = TlsSettings { server_name: Some("a b".to_owned()), ..house.settings() };
    says(&refusal(&settings), &["server_name \"a b\" is no name"]);
}
