//! An authority for tests, and the certificates it gives to brokers and clients, made on the spot.

#![allow(dead_code, reason = "each user includes this file and takes what it needs")]

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// Signs certificates. Two of the same name are still two.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = named(name, Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, new_key()).expect("an authority can be made");
        Authority { issuer }
    }

    /// Its certificate as `ca.pem` in `folder`.
    pub fn write_ca(&self, folder: &Path) -> PathBuf {
        write(folder, "ca.pem", &self.issuer.pem())
    }

    /// Its certificate and its key, for a broker that shows them as its own, as brokers of tinkerers do.
    pub fn write_as_server(&self, folder: &Path) -> Issued {
        issued(folder, "authority", self.issuer.as_ref(), self.issuer.key())
    }

    /// Signs a fresh certificate: `<file>.pem` and `<file>.key` in `folder`.
    pub fn issue(&self, leaf: Leaf, folder: &Path) -> Issued {
        let key = new_key();
        let certificate = leaf.params.signed_by(&key, &self.issuer).expect("a certificate can be signed");
        issued(folder, leaf.file, &certificate, &key)
    }
}

/// Where a certificate and its key lie.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

/// What a certificate is to say, apart from who signs it.
pub struct Leaf {
    params: CertificateParams,
    file: &'static str,
}

impl Leaf {
    /// For a broker that goes by these host names and IP addresses.
    pub fn server<const N: usize>(names: [&str; N]) -> Self {
        let mut params = named("broker", names.map(str::to_owned).to_vec());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Leaf { params, file: "server" }
    }

    /// For a client; mosquitto can take `name` for its user name.
    pub fn client(name: &str) -> Self {
        let mut params = named(name, Vec::new());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Leaf { params, file: "client" }
    }

    /// Its last day was 2001-01-01.
    pub fn expired(mut self) -> Self {
        (self.params.not_before, self.params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
        self
    }

    /// Its first day is 3000-01-01.
    pub fn not_yet_valid(mut self) -> Self {
        (self.params.not_before, self.params.not_after) = (date_time_ymd(3000, 1, 1), date_time_ymd(3001, 1, 1));
        self
    }
}

fn named(name: &str, names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("names of ASCII");
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

fn issued(folder: &Path, file: &str, certificate: &Certificate, key: &KeyPair) -> Issued {
    Issued {
        certificate_file: write(folder, &format!("{file}.pem"), &certificate.pem()),
        key_file: write(folder, &format!("{file}.key"), &key.serialize_pem()),
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("the folder takes files");
    path
}
