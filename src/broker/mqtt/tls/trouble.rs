//! What went wrong with TLS, each in its own words, and how soon another try makes sense.
//!
//! Refused is what somebody must mend: the slow end of the backoff. Where it may pass by itself it is unreachable, as
//! with a device whose clock has not been set yet.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use humantime_serde::re::humantime;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConnection, Error};

use super::Trust;
use super::failure::{caused, refused, refused_for, unreachable};
use crate::broker::Down;

/// Most names of a certificate that are told.
const MAX_NAMES: usize = 5;

const WANTS_CERTIFICATE: &str = "the broker wants a client certificate: set certificate_file and key_file";

pub(super) fn failed(trust: &Trust, connection: &ClientConnection, error: Error) -> Down {
    match error {
        Error::InvalidCertificate(error) => certificate(trust, error),
        Error::AlertReceived(alert) => alerted(trust, connection, alert),
        Error::InvalidMessage(_) if connection.is_handshaking() => {
            refused_for("what answers on this port does not speak TLS, which for MQTT is usually on port 8883", error)
        }
        Error::PeerIncompatible(_) => nothing_in_common(error),
        Error::FailedToGetCurrentTime => {
            unreachable("this device's clock says it is before 1970, so the broker's certificate cannot be checked")
        }
        other => caused("the TLS connection to the broker broke", other),
    }
}

pub(super) fn closed(trust: &Trust, connection: &ClientConnection, error: Option<io::Error>) -> Down {
    let words = match (trust.identity.was_asked(), &trust.certificate_file) {
        (true, None) => {
            return refused(
                "the broker asked for a client certificate, got none, and closed the connection: set certificate_file \
                 and key_file",
            );
        }
        (true, Some(path)) => format!(
            "the broker closed the connection when it had seen the certificate in certificate_file {}",
            path.display()
        ),
        (false, _) if connection.is_handshaking() => "the broker closed the connection in the middle of the TLS \
                                                      handshake: does this port speak plain MQTT (usually 1883), and \
                                                      not TLS (usually 8883)?"
            .to_owned(),
        (false, _) => "the broker closed the connection right after the TLS handshake".to_owned(),
    };
    match error {
        Some(error) => caused(&words, error),
        None => unreachable(words),
    }
}

/// Our verdict on the broker's certificate.
fn certificate(trust: &Trust, error: CertificateError) -> Down {
    use CertificateError as Bad;
    match error {
        Bad::UnknownIssuer => refused(match &trust.ca_file {
            Some(path) => {
                format!("the broker's certificate comes from none of the authorities in ca_file {}", path.display())
            }
            None => "the broker's certificate comes from no authority that this system trusts: set ca_file to the \
                     broker's authority"
                .to_owned(),
        }),
        Bad::BadSignature => refused(
            "the broker's certificate names a trusted authority, but is not signed by it: is the one in ca_file an \
             older one, or another one of the same name?",
        ),
        Bad::NotValidForNameContext { expected, presented } => wrong_name(&expected, &presented),
        Bad::NotValidForName => {
            refused(format!("the broker's certificate is not for {}: {RIGHT_NAME}", trust.name.to_str()))
        }
        Bad::ExpiredContext { time, not_after } => refused(format!(
            "the broker's certificate expired at {}; this device's clock says {}",
            date(not_after),
            date(time)
        )),
        Bad::Expired => refused("the broker's certificate has expired"),
        Bad::NotValidYetContext { time, not_before } => unreachable(format!(
            "the broker's certificate is not valid before {}, and this device's clock says {}: is the clock set?",
            date(not_before),
            date(time)
        )),
        Bad::NotValidYet => {
            unreachable("the broker's certificate is not valid yet by this device's clock: is the clock set?")
        }
        Bad::Revoked => refused("the broker's certificate has been revoked"),
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => {
            refused("the broker's certificate is not for servers: its extended key usage lacks serverAuth")
        }
        Bad::UnsupportedSignatureAlgorithmContext { .. }
        | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => refused(
            "the broker's certificate is signed in a way that is not safe, or not known here: SHA-256 or better is \
             needed, with RSA of 2048 to 8192 bits, ECDSA or Ed25519",
        ),
        // the error is of a crate below rustls that has no other name here
        Bad::Other(error) if error.to_string() == "CaUsedAsEndEntity" => refused(
            "the broker shows an authority's certificate (CA:TRUE) as its own: it needs one of a server, which that \
             authority signed",
        ),
        Bad::Other(error) if error.to_string() == "UnsupportedCertVersion" => refused(
            "the broker's certificate is of X.509 version 1, as openssl makes it without extensions: make it anew with \
             -extfile, and in that file subjectAltName=DNS: and its host name",
        ),
        other => refused_for("the broker's certificate cannot be trusted", Error::InvalidCertificate(other)),
    }
}

const RIGHT_NAME: &str = "if it is the right broker, set host or server_name to a name that the certificate is for";

fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> Down {
    let expected = expected.to_str();
    if presented.is_empty() {
        return refused(format!(
            "the broker's certificate is not for {expected}, nor for any other name: it needs a subjectAltName, the \
             common name does not count"
        ));
    }
    let mut names: Vec<_> = presented.iter().take(MAX_NAMES).map(|name| bare(name)).collect();
    if presented.len() > MAX_NAMES {
        names.push(format!("{} more", presented.len() - MAX_NAMES));
    }
    refused(format!("the broker's certificate is not for {expected}, but for {}: {RIGHT_NAME}", names.join(", ")))
}

/// `DnsName("broker.example")` and `IpAddress(10.0.0.1)` without the wrapping, and no longer than a name can be.
fn bare(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(presented);
    inner.trim_matches('"').chars().take(253).flat_map(char::escape_debug).collect()
}

/// The broker's verdict, mostly on our certificate.
fn alerted(trust: &Trust, connection: &ClientConnection, alert: AlertDescription) -> Down {
    use AlertDescription as Alert;
    let error = Error::AlertReceived(alert);
    let about_us = matches!(
        alert,
        Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::UnknownCA
            | Alert::AccessDenied
    );
    match (&trust.certificate_file, alert) {
        (None, Alert::CertificateRequired) => refused_for(WANTS_CERTIFICATE, error),
        // with TLS 1.2 each broker has an alert of its own for this
        (None, _) if about_us && trust.identity.was_asked() => refused_for(WANTS_CERTIFICATE, error),
        (Some(path), _) if about_us && trust.identity.was_asked() => {
            let words = match alert {
                Alert::UnknownCA => "the broker does not know the authority behind the certificate",
                Alert::CertificateExpired => "the broker says that it has expired: the certificate",
                Alert::CertificateRevoked => "the broker says that it has been revoked: the certificate",
                Alert::AccessDenied => "the broker does not let in whoever shows the certificate",
                _ => "the broker does not accept the certificate",
            };
            refused_for(format!("{words} in certificate_file {}", path.display()), error)
        }
        (_, Alert::UnrecognisedName) => refused_for(
            format!(
                "the broker does not answer to the name {}: set host or server_name to one of its",
                trust.name.to_str()
            ),
            error,
        ),
        (_, Alert::ProtocolVersion | Alert::InsufficientSecurity | Alert::HandshakeFailure)
            if connection.is_handshaking() =>
        {
            nothing_in_common(error)
        }
        _ => caused("the broker broke TLS off", error),
    }
}

fn nothing_in_common(error: Error) -> Down {
    refused_for(
        "the broker and this client have no TLS in common: the broker must offer TLS 1.2 or 1.3, with AES-GCM or \
         ChaCha20-Poly1305 and ECDHE",
        error,
    )
}

fn date(time: UnixTime) -> String {
    const YEAR_10000: u64 = 253_402_300_800;
    match UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs())) {
        Some(at) if time.as_secs() < YEAR_10000 => humantime::format_rfc3339_seconds(at).to_string(),
        _ => "a year after 9999".to_owned(),
    }
}
