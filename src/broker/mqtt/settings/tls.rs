//! What can be set for TLS.

use std::path::PathBuf;

use serde::Deserialize;

/// Whom to believe, and as whom to come. All files are PEM, and read anew for each session: a certificate that is
/// renewed in its place is used from the next one on.
///
/// ```
/// use edge_outbox::broker::TlsSettings;
///
/// let tls = TlsSettings::new()
///     .with_ca_file("/etc/station/ca.pem")
///     .with_client_certificate("/etc/station/roof.pem", "/etc/station/roof.key");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsSettings {
    /// The authorities that the broker's certificate must come from. Defaults to none: the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, behind it those between it and its authority. Defaults to none.
    pub certificate_file: Option<PathBuf>,
    /// The private key of the client's certificate. Defaults to none.
    pub key_file: Option<PathBuf>,
    /// The DNS name or IP address that the broker's certificate must be for; an IPv6 address without brackets. Defaults
    /// to none: the host.
    pub server_name: Option<String>,
}

impl TlsSettings {
    /// TLS with the authorities that the system trusts, and without a client certificate.
    pub fn new() -> Self {
        TlsSettings::default()
    }

    /// Sets the [`ca_file`](Self::ca_file): the authorities to believe instead of the system's.
    pub fn with_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Sets [`certificate_file`](Self::certificate_file) and [`key_file`](Self::key_file).
    pub fn with_client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate_file = Some(certificate.into());
        self.key_file = Some(key.into());
        self
    }

    /// Sets the [`server_name`](Self::server_name).
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }
}
