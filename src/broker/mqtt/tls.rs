//! TLS for a session: whom it believes, as whom it comes, and what went wrong, in words.
//!
//! No socket stands here: the session carries bytes between its own and the [`ClientConnection`]. Everything is read
//! from the files anew for each session, so that certificates can be replaced while the program runs.

mod files;
mod stream;
mod trouble;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme};

pub(super) use self::stream::TlsStream;
use super::{TlsSettings, failure};
use crate::broker::Down;

/// Everything that TLS of one session needs.
pub(super) struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    identity: Arc<Identity>,
    /// For words alone.
    ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
}

/// Reads what the settings name. `host` is the broker's, and its certificate must be for it unless `server_name` says
/// otherwise.
pub(super) fn prepare(settings: &TlsSettings, host: &str) -> Result<Trust, Down> {
    // never the process's default provider: that is the application's
    let provider = Arc::new(ring::default_provider());
    let name = server_name(settings, host)?;
    let roots = match &settings.ca_file {
        Some(path) => files::authorities(path)?,
        None => system(rustls_native_certs::load_native_certs())?,
    };
    let identity = Arc::new(Identity { key: own_key(settings, &provider)?, asked: AtomicBool::new(false) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failure::refused_for("TLS cannot be set up", error))?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::clone(&identity) as Arc<dyn ResolvesClientCert>);
    // the next session has a configuration of its own, so nothing could ever be resumed
    config.resumption = Resumption::disabled();
    Ok(Trust {
        config: Arc::new(config),
        name,
        identity,
        ca_file: settings.ca_file.clone(),
        certificate_file: settings.certificate_file.clone(),
    })
}

impl Trust {
    /// A connection that has not said anything yet.
    pub(super) fn connection(&self) -> Result<ClientConnection, Down> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(|error| failure::refused_for("TLS cannot be set up", error))
    }

    /// What rustls gave `connection` up for. Also after the handshake: with TLS 1.3 a broker that misses a client
    /// certificate says so only then.
    pub(super) fn failed(&self, connection: &ClientConnection, error: rustls::Error) -> Down {
        trouble::failed(self, connection, error)
    }

    /// The broker closed `connection` before its first byte of MQTT, without an alert. An error instead of an end is
    /// usual: a broker for plain MQTT hangs up with most of the greeting unread, and the kernel resets the connection.
    /// So a write that fails is no reason to stop reading: the alert may still stand in the socket's buffer.
    pub(super) fn closed(&self, connection: &ClientConnection, error: Option<io::Error>) -> Down {
        trouble::closed(self, connection, error)
    }
}

/// What the client shows of itself, and whether it was asked to: a broker that misses a certificate seldom says so.
#[derive(Debug)]
struct Identity {
    key: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl Identity {
    fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

fn server_name(settings: &TlsSettings, host: &str) -> Result<ServerName<'static>, Down> {
    let (setting, text) = match &settings.server_name {
        Some(name) => ("server_name", name.as_str()),
        None => ("host", host),
    };
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    ServerName::try_from(bare.to_owned()).map_err(|_| {
        failure::refused(format!(
            "{setting} {text:?} is no name that a certificate can be for: set server_name to a host name or an IP \
             address"
        ))
    })
}

fn system(found: rustls_native_certs::CertificateResult) -> Result<RootCertStore, Down> {
    for error in &found.errors {
        log::debug!("one of the system's authorities was left out: {error}");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(failure::refused(
            "this system has no authorities to trust: install ca-certificates, or set ca_file to the broker's authority",
        ));
    }
    Ok(roots)
}

fn own_key(settings: &TlsSettings, provider: &CryptoProvider) -> Result<Option<Arc<CertifiedKey>>, Down> {
    match (&settings.certificate_file, &settings.key_file) {
        (Some(certificate), Some(key)) => {
            files::certified_key(certificate, key, provider).map(|key| Some(Arc::new(key)))
        }
        (None, None) => Ok(None),
        _ => Err(failure::refused("certificate_file and key_file belong together: set both, or neither")),
    }
}
