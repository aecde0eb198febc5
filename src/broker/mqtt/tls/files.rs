//! Certificates and keys from PEM files. Errors name the setting and the path, and never quote a file: rustls's own
//! errors about PEM would.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys, RootCertStore};

use super::failure;
use crate::broker::Down;

/// Largest file that is read, in bytes: four times all authorities of a Linux distribution.
const MAX_FILE: u64 = 1024 * 1024;

pub(super) fn authorities(path: &Path) -> Result<RootCertStore, Down> {
    let mut roots = RootCertStore::empty();
    let (_, unfit) = roots.add_parsable_certificates(certificates("ca_file", path)?);
    if roots.is_empty() {
        return Err(damaged("ca_file", path));
    }
    if unfit > 0 {
        log::debug!("{unfit} certificates in ca_file {} were left out: they do not parse", path.display());
    }
    Ok(roots)
}

pub(super) fn certified_key(
    certificate_file: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Down> {
    let chain = certificates("certificate_file", certificate_file)?;
    let key = private_key(key_file)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => failure::refused(format!(
            "the key in key_file {} is not that of the first certificate in certificate_file {}",
            key_file.display(),
            certificate_file.display()
        )),
        TlsError::InvalidCertificate(_) => damaged("certificate_file", certificate_file),
        _ => failure::refused(format!(
            "the key in key_file {} cannot be used: RSA with 2048 to 4096 bits, ECDSA with P-256 or P-384, and Ed25519 \
             are known",
            key_file.display()
        )),
    })
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Down> {
    let text = read(setting, path)?;
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|_| damaged(setting, path))?;
    if all.is_empty() {
        return Err(failure::refused(format!(
            "{setting} {} holds no certificate in PEM form (it begins with -----BEGIN CERTIFICATE-----)",
            path.display()
        )));
    }
    Ok(all)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Down> {
    let text = read("key_file", path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound if contains(&text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") => encrypted(path),
        PemError::NoItemsFound => failure::refused(format!(
            "key_file {} holds no private key in PEM form (it begins with -----BEGIN PRIVATE KEY-----)",
            path.display()
        )),
        // how OpenSSL encrypted keys before PKCS #8: headers, which PEM of today does not have
        _ if contains(&text, b"Proc-Type: 4,ENCRYPTED") => encrypted(path),
        _ => damaged("key_file", path),
    })
}

fn encrypted(path: &Path) -> Down {
    failure::refused(format!(
        "the key in key_file {} is encrypted, and nobody is there to type its passphrase: store it without one \
         (openssl pkey -in old -out new), readable for this program alone",
        path.display()
    ))
}

fn damaged(setting: &str, path: &Path) -> Down {
    failure::refused(format!("{setting} {} is damaged: what it holds in PEM form does not decode", path.display()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, Down> {
    let unreadable =
        |error: io::Error| failure::refused_for(format!("{setting} {} cannot be read", path.display()), error);
    // a pipe would let the session wait for ever, a device may have no end
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(failure::refused(format!("{setting} {} is not a file", path.display())));
    }
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text)).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failure::refused(format!(
            "{setting} {} is larger than 1 MiB, which is more than certificates and keys take",
            path.display()
        )));
    }
    Ok(text)
}
