//! What can be set for a broker that speaks MQTT.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::url;
use crate::{Error, QoS};

/// Where an MQTT broker is, and how to speak with it.
///
/// Durations are read by serde as text: `"30s"`. Unknown names are refused. `Debug` never shows the password.
///
/// ```
/// use edge_outbox::broker::MqttSettings;
///
/// let settings = MqttSettings { host: "broker.example".to_owned(), ..MqttSettings::default() };
/// settings.check()?;
/// # Ok::<(), edge_outbox::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttSettings {
    /// The broker's name or IP address, IPv6 with or without brackets. Resolved anew for each session. Defaults to
    /// `localhost`.
    pub host: String,
    /// Its TCP port, 1 to 65,535. Defaults to none: 1883, or 8883 with TLS.
    pub port: Option<u16>,
    /// Which MQTT is spoken. Defaults to MQTT 5.
    pub protocol: Protocol,
    /// The name under which the broker knows this client, 1 to 65,535 bytes. No two clients of a broker may have the
    /// same: they would throw each other out for ever.
    ///
    /// Defaults to none, which derives one: `outbox`, 8 hexadecimal digits of a hash of `/etc/machine-id`, and 8 that
    /// are random for each [`Mqtt`](super::Mqtt). So devices with cloned cards differ, and so do two programs on one
    /// device; a broker's log still shows which device it was. Set it where the broker decides by client id who may
    /// connect.
    pub client_id: Option<String>,
    /// The user name, 1 to 65,535 bytes. Defaults to none.
    pub user: Option<String>,
    /// Its password, 1 to 65,535 bytes. Without TLS it goes over the wire in the clear. Defaults to none.
    pub password: Option<String>,
    /// A file that holds the user name, read anew for each session. Defaults to none.
    pub user_file: Option<PathBuf>,
    /// A file that holds the password, read anew for each session. Defaults to none.
    pub password_file: Option<PathBuf>,
    /// Speaks TLS. Defaults to none: plain TCP.
    pub tls: Option<TlsSettings>,
    /// What the broker says in our name once the connection is lost without a good-bye. Defaults to none.
    pub last_will: Option<LastWill>,
    /// How often a ping is sent, 5 s to 18 h; a broker may ask for another time. A broker that went away without a word
    /// is noticed after one to two times this. Defaults to 30 s.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// How long name resolution, TCP and MQTT's handshake may take together, 100 ms to 10 min. Defaults to 10 s.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Most messages in flight, 1 to 10,000; the smallest of this, [`Settings::window`](crate::Settings::window) and
    /// what the broker allows holds. Each costs 216 bytes. Defaults to 256.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum Protocol {
    /// MQTT 5: reasons for refusals, the broker's limits, headers, content type, expiry.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1, for brokers that know no other: topic, payload, QoS and retain are all that goes over the wire.
    #[serde(rename = "3.1.1")]
    V311,
}

/// Whom to believe, and as whom to come. All files are PEM, and read anew for each session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The authorities that the broker's certificate must come from. Defaults to none: the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, behind it those between it and its authority. Defaults to none.
    pub certificate_file: Option<PathBuf>,
    /// The private key of the client's certificate. Defaults to none.
    pub key_file: Option<PathBuf>,
    /// The name or IP address that the broker's certificate must be for. Defaults to none: the host.
    pub server_name: Option<String>,
}

/// What the broker says in our name once the connection is lost without a good-bye.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastWill {
    /// Where to: a topic name, as in [`Message::topic`](crate::Message::topic).
    pub topic: String,
    /// What it says, at most 65,535 bytes.
    #[serde(default)]
    pub payload: String,
    /// With which quality of service. Defaults to [`QoS::AtLeastOnce`](crate::QoS::AtLeastOnce).
    #[serde(default)]
    pub qos: QoS,
    /// Whether the broker keeps it as the topic's last message. Defaults to `false`.
    #[serde(default)]
    pub retain: bool,
}

impl fmt::Debug for LastWill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastWill")
            .field("topic", &self.topic)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish()
    }
}

impl MqttSettings {
    /// From `mqtt://user:password@host:port?client_id=…&keep_alive=30s&connect_timeout=10s&window=256`. Everything but
    /// the host can be left out. Reserved characters in user, password and client id are percent-encoded: `%40` is `@`.
    ///
    /// # Errors
    /// [`Error::Settings`] with all that is wrong, in words, and without the URL's credentials.
    pub fn from_url(url: &str) -> Result<MqttSettings, Error> {
        let (settings, mut wrong) = url::parse(url);
        if wrong.is_empty() {
            wrong = settings.mistakes();
        }
        if wrong.is_empty() { Ok(settings) } else { Err(Error::Settings(wrong)) }
    }

    /// Checks every setting against its bounds.
    ///
    /// # Errors
    /// [`Error::Settings`] with all that is wrong, in words.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = self.mistakes();
        if wrong.is_empty() { Ok(()) } else { Err(Error::Settings(wrong)) }
    }

    fn mistakes(&self) -> Vec<String> {
        const LONGEST: usize = 65_535;
        let mut wrong = Vec::new();
        let host = &self.host;
        if host.is_empty() || host.len() > 255 || host.contains(|c: char| c.is_whitespace() || "/@?#\0".contains(c)) {
            wrong.push(
                "host is not a host name or IP address; the port, user and password have settings of their own"
                    .to_owned(),
            );
        }
        if self.port == Some(0) {
            wrong.push("port is 0; 1 to 65535 are allowed".to_owned());
        }
        // the texts themselves stay out of the words: they are for logs
        for (name, text) in [("client_id", &self.client_id), ("user", &self.user), ("password", &self.password)] {
            if let Some(text) = text {
                if text.is_empty() || text.len() > LONGEST || text.contains('\0') {
                    wrong.push(format!(
                        "{name} is {} bytes long; 1 to {LONGEST} without NUL are allowed, or none at all",
                        text.len()
                    ));
                }
            }
        }
        if self.password.is_some() && self.user.is_none() {
            wrong.push("password is set, but user is not: set both".to_owned());
        }
        let mut time = |name: &str, value: Duration, low: Duration, high: Duration| {
            if value < low || value > high {
                wrong.push(format!("{name} is {value:?}; {low:?} to {high:?} are allowed"));
            }
        };
        time("keep_alive", self.keep_alive, Duration::from_secs(5), Duration::from_secs(18 * 3600));
        time("connect_timeout", self.connect_timeout, Duration::from_millis(100), Duration::from_secs(600));
        if !(1..=10_000).contains(&self.window) {
            wrong.push(format!("window is {}; 1 to 10000 are allowed", self.window));
        }
        wrong
    }

    /// The port that was set, or the one that is usual.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls.is_some() { 8883 } else { 1883 })
    }

    /// The host without the brackets that an IPv6 address may have.
    pub(super) fn resolvable_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    pub(super) fn credentials(&self) -> Result<Credentials, String> {
        Ok(Credentials { user: self.user.clone(), password: self.password.clone() })
    }
}

pub(super) struct Credentials {
    pub user: Option<String>,
    pub password: Option<String>,
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

/// 22 letters and digits: what [every broker must take](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Client_Identifier_(ClientID))
/// is up to 23 of them.
pub(super) fn derived_client_id() -> String {
    // the machine id itself is not for others to see, says machine-id(5)
    let machine = fs::read("/etc/machine-id").map_or(0, |id| crc32fast::hash(&id));
    let random = RandomState::new().build_hasher().finish() & 0xffff_ffff;
    format!("outbox{machine:08x}{random:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(settings: Result<MqttSettings, Error>) -> Vec<String> {
        match settings {
            Err(Error::Settings(wrong)) => wrong,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_url_says_it_all() {
        let url = "mqtt://gate%40way:p%3Aa%2Fss@broker.example:1884?client_id=roof%201&keep_alive=15s&connect_timeout=2s&window=20";
        let settings = MqttSettings::from_url(url).unwrap();
        let expected = MqttSettings {
            host: "broker.example".to_owned(),
            port: Some(1884),
            client_id: Some("roof 1".to_owned()),
            user: Some("gate@way".to_owned()),
            password: Some("p:a/ss".to_owned()),
            keep_alive: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(2),
            window: 20,
            ..MqttSettings::default()
        };
        assert!(settings == expected, "{settings:?}");
        assert!(MqttSettings::from_url("mqtt://localhost").unwrap() == MqttSettings::default());
    }

    #[test]
    fn an_ipv6_address_is_a_host_with_and_without_brackets() {
        let settings = MqttSettings::from_url("mqtt://[::1]:1884/").unwrap();
        assert_eq!((settings.host.as_str(), settings.port), ("[::1]", Some(1884)));
        let bare = MqttSettings { host: "::1".to_owned(), ..MqttSettings::default() };
        assert_eq!(bare.resolvable_host(), settings.resolvable_host());
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_no_secret_with_them() {
        let wrong =
            mistakes(MqttSettings::from_url("mqtts://anna:s3cret@host:99999?window=many&keep_alive=5&nonsense=1"));
        let words = wrong.join("\n");
        assert_eq!(wrong.len(), 5, "{words}");
        for part in ["mqtts", "port", "window", "keep_alive", "nonsense"] {
            assert!(words.contains(part), "{part} is missing in: {words}");
        }
        let wrong =
            mistakes(MqttSettings::from_url("mqtt://:s3cret@?window=0&keep_alive=4s&connect_timeout=1h&client_id="));
        let words = wrong.join("\n");
        for part in ["host", "user", "window", "keep_alive", "connect_timeout", "client_id"] {
            assert!(words.contains(part), "{part} is missing in: {words}");
        }
        assert!(!words.contains("s3cret") && !words.contains("anna"), "{words}");
    }

    #[test]
    fn debug_does_not_show_credentials() {
        let settings = MqttSettings::from_url("mqtt://anna:s3cret@host").unwrap();
        let broker = super::super::Mqtt::new(settings).unwrap();
        let shown = format!("{broker:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("anna"), "{shown}");
    }

    #[test]
    fn settings_are_read_by_serde_and_unknown_names_refused() {
        let settings: MqttSettings = serde_json::from_str(r#"{"host": "b", "keep_alive": "1m"}"#).unwrap();
        assert_eq!(settings.keep_alive, Duration::from_secs(60));
        assert!(serde_json::from_str::<MqttSettings>(r#"{"hots": "b"}"#).is_err());
    }

    #[test]
    fn derived_client_ids_differ_and_every_broker_takes_them() {
        let (one, other) = (derived_client_id(), derived_client_id());
        assert_ne!(one, other);
        assert!(one.len() <= 23 && one.bytes().all(|b| b.is_ascii_alphanumeric()), "{one}");
    }
}
