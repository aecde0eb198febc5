//! What can be set for a broker that speaks MQTT. Nothing here opens a socket; files are read for credentials alone.

mod check;
mod client_id;
mod credentials;
mod tls;
mod will;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

pub(super) use self::client_id::derived_client_id;
pub use self::tls::TlsSettings;
pub use self::will::LastWill;
use super::url;
use crate::Error;

/// Where an MQTT broker is, and how to speak with it.
///
/// ```
/// use std::time::Duration;
/// use edge_outbox::broker::{LastWill, MqttSettings, TlsSettings};
///
/// let settings = MqttSettings::new("broker.example")
///     .with_user("gateway")
///     .with_password_file("/run/credentials/mqtt-password")
///     .with_tls(TlsSettings::new().with_ca_file("/etc/station/ca.pem"))
///     .with_last_will(LastWill::text("status/roof", "lost").retained())
///     .with_keep_alive(Duration::from_secs(60));
/// # #[cfg(feature = "tls")]
/// settings.check()?;
/// # Ok::<(), edge_outbox::Error>(())
/// ```
///
/// By serde it is read with the fields' names, durations as text. Names that are not there are refused:
///
/// ```
/// # use edge_outbox::broker::{MqttSettings, Protocol};
/// let settings: MqttSettings = serde_json::from_str(
///     r#"{
///         "host": "broker.example",
///         "protocol": "3.1.1",
///         "keep_alive": "1m",
///         "tls": { "ca_file": "/etc/station/ca.pem" },
///         "last_will": { "topic": "status/roof", "payload": "lost", "retain": true }
///     }"#,
/// )?;
/// assert_eq!((settings.protocol, settings.port()), (Protocol::V311, 8883));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Sessions are always clean (MQTT 5: clean start, and no session expiry), which is no setting: the table is the
/// session. `Debug` shows neither user nor password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MqttSettings {
    /// The broker's name or IP address, IPv6 with or without brackets. Resolved anew for each session. Defaults to
    /// `localhost`.
    pub host: String,
    /// Its TCP port, 1 to 65,535. Defaults to none: 1883, or 8883 with TLS.
    pub port: Option<u16>,
    /// Which MQTT is spoken. Defaults to MQTT 5.
    pub protocol: Protocol,
    /// The name under which the broker knows this client, 1 to 65,535 bytes. No two clients of a broker may have the
    /// same, and an MQTT client of the application's own is one of them: a broker ends the older of two sessions, so
    /// they would throw each other out for ever.
    ///
    /// Defaults to none, which derives one: `outbox`, 8 hexadecimal digits of a hash of `/etc/machine-id`, and 8 that
    /// are random for each [`Mqtt`](super::Mqtt). So devices with cloned cards differ, and so do two programs on one
    /// device; a broker's log still shows which device it was. Set it where the broker decides by client id who may
    /// connect.
    pub client_id: Option<String>,
    /// The user name, 1 to 65,535 bytes. Defaults to none.
    #[serde(deserialize_with = "credentials::text")]
    pub user: Option<String>,
    /// The password, 1 to 65,535 bytes of UTF-8. Without TLS it goes over the wire in the clear. Defaults to none.
    ///
    /// A password without a user name (a token, say) is for MQTT 5 alone: MQTT 3.1.1 forbids it
    /// ([MQTT 5, section 3.1.2.9](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Toc3901043)).
    #[serde(deserialize_with = "credentials::text")]
    pub password: Option<String>,
    /// A file that holds the user name instead: all of it, but for one newline at its end. Read anew for each session,
    /// so it may change, and need not be there before the first. Defaults to none.
    pub user_file: Option<PathBuf>,
    /// A file that holds the password instead, read like [`user_file`](Self::user_file). Defaults to none.
    pub password_file: Option<PathBuf>,
    /// Speaks TLS; needs the feature `tls`. Defaults to none: plain TCP.
    pub tls: Option<TlsSettings>,
    /// What the broker says in our name once the connection is lost without a good-bye. Defaults to none.
    pub last_will: Option<LastWill>,
    /// After how long without a word a ping is sent, 5 s to 18 h; a broker may ask for another time. A broker that went
    /// away without a word is noticed after one to two times this, or by what it leaves unanswered. A broker gives a
    /// client up after one and a half times this without a whole packet: the largest message must get through by then
    /// on the slowest link. Defaults to 30 s.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// How long name resolution, TCP, TLS and MQTT's handshake may take together, 100 ms to 100 s. Defaults to 10 s.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Most messages in flight, 1 to 10,000; the smallest of this, [`Settings::window`](crate::Settings::window) and
    /// what the broker allows holds. Each costs some 50 bytes. Defaults to 256.
    pub window: u16,
}

impl Default for MqttSettings {
    fn default() -> Self {
        MqttSettings {
            host: "localhost".to_owned(),
            port: None,
            protocol: Protocol::default(),
            client_id: None,
            user: None,
            password: None,
            user_file: None,
            password_file: None,
            tls: None,
            last_will: None,
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            window: 256,
        }
    }
}

/// Which MQTT is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// MQTT 5: reasons for refusals, the broker's limits, headers, content type, expiry. By serde `"5"`, or the number.
    #[default]
    V5,
    /// MQTT 3.1.1, for brokers that know no other: topic, payload, QoS and retain are all that goes over the wire. By
    /// serde `"3.1.1"`.
    V311,
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Found {
            Text(String),
            Number(u64),
            Other(IgnoredAny),
        }
        match Found::deserialize(input)? {
            Found::Text(text) if text == "5" => Ok(Protocol::V5),
            Found::Text(text) if text == "3.1.1" => Ok(Protocol::V311),
            Found::Number(5) => Ok(Protocol::V5),
            _ => Err(D::Error::custom("protocol is none of \"5\" and \"3.1.1\", in quotes")),
        }
    }
}

/// `5` or `3.1.1`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::V5 => "5",
            Protocol::V311 => "3.1.1",
        })
    }
}

impl MqttSettings {
    /// The broker at `host`, and for the rest the defaults. Nothing is checked before [`check`](Self::check), which
    /// [`Mqtt::new`](super::Mqtt::new) calls.
    pub fn new(host: impl Into<String>) -> Self {
        MqttSettings { host: host.into(), ..MqttSettings::default() }
    }

    /// From `mqtt://user:password@host:port?name=value&…`, or `mqtts://…` for TLS. Everything but the host can be left
    /// out.
    ///
    /// | name | for example | |
    /// |---|---|---|
    /// | `client_id` | `roof` | |
    /// | `protocol` | `3.1.1` | or `5` |
    /// | `keep_alive`, `connect_timeout` | `30s` | |
    /// | `window` | `256` | |
    /// | `user_file`, `password_file` | `/run/credentials/mqtt` | |
    /// | `ca_file`, `certificate_file`, `key_file` | `/etc/station/ca.pem` | `mqtts://` only |
    /// | `server_name` | `broker.example` | `mqtts://` only |
    ///
    /// In user, password and values, reserved characters are percent-encoded: `%40` is `@`, `%2F` is `/`. A last will
    /// has no place in a URL: give it by [`with_last_will`](Self::with_last_will).
    ///
    /// ```
    /// use edge_outbox::broker::MqttSettings;
    ///
    /// let url = "mqtts://broker.example?user_file=/run/credentials/user&password_file=/run/credentials/password";
    /// # #[cfg(feature = "tls")]
    /// assert_eq!(MqttSettings::from_url(url)?.port(), 8883);
    /// # Ok::<(), edge_outbox::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Settings`] with all that is wrong, in words, and without the URL's credentials.
    pub fn from_url(url: &str) -> Result<MqttSettings, Error> {
        let (settings, mut wrong) = url::parse(url);
        wrong.extend(settings.mistakes());
        if wrong.is_empty() { Ok(settings) } else { Err(Error::Settings(wrong)) }
    }

    /// Sets the [`port`](Self::port).
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Sets the [`protocol`](Self::protocol).
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the [`client_id`](Self::client_id).
    pub fn with_client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Sets the [`user`](Self::user).
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the [`password`](Self::password).
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the [`user_file`](Self::user_file).
    pub fn with_user_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.user_file = Some(path.into());
        self
    }

    /// Sets the [`password_file`](Self::password_file).
    pub fn with_password_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.password_file = Some(path.into());
        self
    }

    /// Speaks [`tls`](Self::tls).
    pub fn with_tls(mut self, tls: TlsSettings) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the [`last_will`](Self::last_will).
    pub fn with_last_will(mut self, last_will: LastWill) -> Self {
        self.last_will = Some(last_will);
        self
    }

    /// Sets [`keep_alive`](Self::keep_alive).
    pub fn with_keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Sets the [`connect_timeout`](Self::connect_timeout).
    pub fn with_connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Sets the [`window`](Self::window).
    pub fn with_window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    /// The port that was set, or the one that is usual.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls.is_some() { 8883 } else { 1883 })
    }

    /// The host without an IPv6 address's brackets.
    pub(super) fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }
}

/// Without the password, and without the user, which is half of the credentials.
impl fmt::Debug for MqttSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |text: &Option<String>| if text.is_some() { "set" } else { "none" };
        f.debug_struct("MqttSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("protocol", &self.protocol)
            .field("client_id", &self.client_id)
            .field("user", &format_args!("{}", hidden(&self.user)))
            .field("password", &format_args!("{}", hidden(&self.password)))
            .field("user_file", &self.user_file)
            .field("password_file", &self.password_file)
            .field("tls", &self.tls)
            .field("last_will", &self.last_will)
            .field("keep_alive", &self.keep_alive)
            .field("connect_timeout", &self.connect_timeout)
            .field("window", &self.window)
            .finish()
    }
}
