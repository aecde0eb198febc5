//! What an application enqueues: a [`Message`], and the [`MessageId`] it is known by from then on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Longest topic, in bytes of UTF-8: an MQTT string carries its length in 16 bits
/// ([MQTT 5, section 1.5.4](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_UTF-8_Encoded_String)).
pub const MAX_TOPIC: usize = 65_535;
/// Longest key, in bytes of UTF-8.
pub const MAX_KEY: usize = 1_024;
/// Longest header name, header value, content type and correlation data, in bytes; the same 16 bits as for the topic.
pub const MAX_HEADER: usize = 65_535;
/// Most bytes that all headers of a message may take together.
pub const MAX_HEADERS: usize = 1_048_576;

/// Longest expiry: MQTT counts it in seconds, in 32 bits
/// ([MQTT 5, section 3.3.2.3.3](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Toc3901112)).
/// About 136 years.
pub const MAX_EXPIRY: Duration = Duration::from_secs(u32::MAX as u64);

/// Header names that the outbox itself puts on the wire, and that a message may therefore not carry.
pub const RESERVED_HEADERS: [&str; 2] = [ID_HEADER, DUPLICATE_HEADER];
/// The header that carries the [`MessageId`] to the consumer, who recognises a repeated delivery by it.
pub const ID_HEADER: &str = "id";
/// The header, with the value `maybe`, on a message that may have been delivered before.
pub const DUPLICATE_HEADER: &str = "duplicate";

/// One message: where it goes, what it says, and what it must not be overtaken by.
///
/// ```
/// use edge_outbox::{Message, QoS};
///
/// let message = Message::text("weather/roof", "21.5")
///     .with_key("roof")
///     .with_header("unit", "celsius")
///     .with_qos(QoS::AtLeastOnce);
/// ```
///
/// Nothing is checked as it is made: [`Outbox::enqueue`](crate::Outbox::enqueue) checks it all, so that one error path
/// serves.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// An MQTT topic *name*: 1 to [`MAX_TOPIC`] bytes, without `+`, `#` and NUL.
    pub topic: String,
    /// The body, as it goes over the wire. At most
    /// [`Settings::max_payload`](crate::Settings::max_payload) bytes.
    pub payload: Payload,
    /// Messages of one key are first sent in the order of their commits. 1 to [`MAX_KEY`] bytes.
    /// Without a key a message has no order after a broker refused it for a while.
    pub key: Option<String>,
    /// Names and values, in this order, repeated names allowed. At most [`MAX_HEADER`] bytes each and
    /// [`MAX_HEADERS`] together; [`RESERVED_HEADERS`] are the outbox's own.
    pub headers: Vec<(String, String)>,
    /// The payload's media type, for example `application/json`.
    pub content_type: Option<String>,
    /// How long the message is of use, counted from its enqueueing: 1 s to [`MAX_EXPIRY`]. `None`: for ever. In a
    /// [`Delivery`](crate::broker::Delivery) it is what is *left* of that, at least 1 s. See
    /// [`with_expiry`](Self::with_expiry).
    pub expiry: Option<Duration>,
    /// The topic on which an answer is expected; a name by the same rules as [`topic`](Self::topic).
    pub response_topic: Option<String>,
    /// What the sender recognises the answer by. At most [`MAX_HEADER`] bytes.
    pub correlation_data: Option<Vec<u8>>,
    /// The quality of service asked of the broker. Defaults to [`QoS::AtLeastOnce`].
    pub qos: QoS,
    /// Whether the broker keeps this message as the topic's last one for later subscribers. Defaults to `false`.
    pub retain: bool,
}

impl Message {
    /// A message of bytes.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self::with_payload(topic.into(), Payload::Bytes(payload.into()))
    }

    /// A message of text. It stands as text in the table, where a person with a shell can read it.
    pub fn text(topic: impl Into<String>, payload: impl Into<String>) -> Self {
        Self::with_payload(topic.into(), Payload::Text(payload.into()))
    }

    /// A message whose payload is `value` as JSON, with the content type `application/json`.
    ///
    /// # Errors
    /// [`Error::Json`] if `value` does not serialize: a map with keys that are no strings, or its own error.
    pub fn json(topic: impl Into<String>, value: &impl Serialize) -> Result<Self, Error> {
        let payload = serde_json::to_string(value).map_err(Error::Json)?;
        Ok(Self::text(topic, payload).with_content_type("application/json"))
    }

    fn with_payload(topic: String, payload: Payload) -> Self {
        Message {
            topic,
            payload,
            key: None,
            headers: Vec::new(),
            content_type: None,
            expiry: None,
            response_topic: None,
            correlation_data: None,
            qos: QoS::default(),
            retain: false,
        }
    }

    /// Sets the [`key`](Self::key).
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds one [header](Self::headers) behind those that are there.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the [`content_type`](Self::content_type).
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Sets the [`expiry`](Self::expiry): the message is of use for so long, and is not sent later.
    ///
    /// Each time it is handed to the broker, it says how much is left, as
    /// [MQTT 5, section 3.3.2.3.3](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Toc3901112), asks of
    /// those who pass messages on. MQTT 3.1.1 has no word for that: there the expiry holds on the device alone. A message
    /// whose turn comes when nothing is left is parked as FAILED with the reason `expired: …`: it is
    /// [listed and counted](crate::Outbox::failed) and never silently dropped.
    /// [`Outbox::retry`](crate::Outbox::retry) sends it all the same, without an expiry. Kept in milliseconds; a part of
    /// one counts as a whole.
    ///
    /// **This, alone of all that decides about sending, goes by the wall clock**, for no other clock survives a restart.
    /// A clock that went back makes no message expire, nor does it give one more time than it had at first. But a clock
    /// that jumps forward lets messages expire before their time: on a device without a battery-backed clock those that
    /// were enqueued before the clock was set for the first time.
    pub fn with_expiry(mut self, expiry: Duration) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// Sets the [`response_topic`](Self::response_topic).
    pub fn with_response_topic(mut self, response_topic: impl Into<String>) -> Self {
        self.response_topic = Some(response_topic.into());
        self
    }

    /// Sets the [`correlation_data`](Self::correlation_data).
    pub fn with_correlation_data(mut self, correlation_data: impl Into<Vec<u8>>) -> Self {
        self.correlation_data = Some(correlation_data.into());
        self
    }

    /// Sets the [`qos`](Self::qos).
    pub fn with_qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Sets [`retain`](Self::retain): the broker keeps this message as the topic's last one.
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Bytes that this message takes on its way: topic, key, headers, content type, response topic, correlation data and
    /// payload.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.topic.len()
            + self.payload.len()
            + self.key.as_ref().map_or(0, String::len)
            + self.content_type.as_ref().map_or(0, String::len)
            + self.response_topic.as_ref().map_or(0, String::len)
            + self.correlation_data.as_ref().map_or(0, Vec::len)
            + headers
    }

    /// Checks every limit of the fields' documentation, with `max_payload` as in
    /// [`Settings::max_payload`](crate::Settings::max_payload). [`Outbox::enqueue`](crate::Outbox::enqueue) does so by
    /// itself: this is for who wants to know beforehand.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the first that is wrong.
    pub fn check(&self, max_payload: usize) -> Result<(), Error> {
        let invalid = |field, why: String| Err(Error::Invalid { field, why });
        check_topic("topic", &self.topic)?;
        if let Some(key) = &self.key {
            if key.is_empty() || key.len() > MAX_KEY {
                return invalid(
                    "key",
                    format!("is {} bytes long; 1 to {MAX_KEY} are allowed, or none at all", key.len()),
                );
            }
        }
        let mut headers = 0;
        for (name, value) in &self.headers {
            if name.is_empty() || name.len() > MAX_HEADER || value.len() > MAX_HEADER {
                return invalid(
                    "header",
                    format!(
                        "has a name of {} and a value of {} bytes; 1 to {MAX_HEADER} and at most {MAX_HEADER} are allowed",
                        name.len(),
                        value.len()
                    ),
                );
            }
            if RESERVED_HEADERS.contains(&name.as_str()) {
                return invalid(
                    "header",
                    format!("is named `{name}`, which the outbox itself sets; choose another name"),
                );
            }
            if name.contains('\0') || value.contains('\0') {
                return invalid("header", "holds NUL, which is not allowed in MQTT".to_owned());
            }
            headers += name.len() + value.len();
        }
        if headers > MAX_HEADERS {
            return invalid("headers", format!("take {headers} bytes; at most {MAX_HEADERS} are allowed together"));
        }
        if let Some(content_type) = &self.content_type {
            if content_type.len() > MAX_HEADER || content_type.contains('\0') {
                return invalid(
                    "content type",
                    format!("is {} bytes long; at most {MAX_HEADER} without NUL are allowed", content_type.len()),
                );
            }
        }
        if let Some(expiry) = self.expiry {
            if expiry < Duration::from_secs(1) || expiry > MAX_EXPIRY {
                let found = if expiry.is_zero() { "0s".to_owned() } else { format!("{expiry:?}") };
                return invalid(
                    "expiry",
                    format!("is {found}; 1s to {MAX_EXPIRY:?} are allowed, or none for a message that never expires"),
                );
            }
        }
        if let Some(response_topic) = &self.response_topic {
            check_topic("response topic", response_topic)?;
        }
        if let Some(data) = &self.correlation_data {
            if data.len() > MAX_HEADER {
                return invalid(
                    "correlation data",
                    format!("is {} bytes long; at most {MAX_HEADER} are allowed", data.len()),
                );
            }
        }
        if self.payload.len() > max_payload {
            return invalid(
                "payload",
                format!(
                    "is {} bytes long; the setting max_payload allows {max_payload}: split it, or raise the setting",
                    self.payload.len()
                ),
            );
        }
        Ok(())
    }
}

/// The rules of an MQTT topic name.
fn check_topic(field: &'static str, topic: &str) -> Result<(), Error> {
    if topic.is_empty() || topic.len() > MAX_TOPIC {
        let why = format!("is {} bytes long; 1 to {MAX_TOPIC} are allowed", topic.len());
        return Err(Error::Invalid { field, why });
    }
    if let Some(bad) = topic.chars().find(|c| matches!(c, '+' | '#' | '\0')) {
        let why = format!("holds {bad:?}; `+` and `#` belong to subscriptions, and NUL is not allowed in MQTT");
        return Err(Error::Invalid { field, why });
    }
    Ok(())
}

/// Shows the sizes of payload, headers and correlation data, never what they say: a `Debug` ends up in logs.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic)
            .field("payload", &self.payload)
            .field("key", &self.key)
            .field("headers", &format_args!("{} headers", self.headers.len()))
            .field("content_type", &self.content_type)
            .field("expiry", &self.expiry)
            .field("response_topic", &self.response_topic)
            .field("correlation_data", &self.correlation_data.as_deref().map(Size))
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish()
    }
}

/// Shows the length of bytes alone.
struct Size<'a>(&'a [u8]);

impl fmt::Debug for Size<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What a message says. On the wire both are bytes; in the table text stays readable.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// Stored as BLOB.
    Bytes(Vec<u8>),
    /// Stored as TEXT.
    Text(String),
}

impl Payload {
    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there is nothing in it. An empty payload is a message like any other.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What goes over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Payload::Bytes(bytes) => bytes,
            Payload::Text(text) => text.as_bytes(),
        }
    }

    /// What goes over the wire, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Payload::Bytes(bytes) => bytes,
            Payload::Text(text) => text.into_bytes(),
        }
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Shows the length, never what it says.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Payload::Bytes(_) => "bytes",
            Payload::Text(_) => "bytes of text",
        };
        write!(f, "{} {kind}", self.len())
    }
}

/// MQTT's quality of service, which is also what "sent" means for a message. By serde `"at-most-once"`,
/// `"at-least-once"` and `"exactly-once"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QoS {
    /// 0: sent once it was handed to the kernel. A cut may lose it.
    AtMostOnce,
    /// 1: sent once the broker acknowledged it (PUBACK).
    #[default]
    AtLeastOnce,
    /// 2: sent once the broker completed it (PUBCOMP). Within one connection the broker passes it on exactly once;
    /// after a reconnect it is sent again, and is then at least once.
    ExactlyOnce,
}

impl QoS {
    /// MQTT's number for it: 0, 1 or 2.
    pub fn level(self) -> u8 {
        match self {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        }
    }

    /// The quality of service of MQTT's number `level`, if it is 0, 1 or 2.
    pub fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// The name of a message, the same in the log, in the API and on the wire: `<row id>-<nonce>`.
///
/// The row id counts up from 1 in commit order and is never used twice in one database. The nonce is 64 random bits,
/// as 16 hexadecimal digits: two devices whose cards were cloned, or a database restored from a backup, give the
/// same row ids to different messages, but not the same nonces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    row: i64,
    nonce: i64,
}

impl MessageId {
    pub(crate) fn new(row: i64, nonce: i64) -> Self {
        MessageId { row, nonce }
    }

    /// The row's `id` in the table `outbox`.
    pub fn row(self) -> i64 {
        self.row
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.row, self.nonce)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

impl FromStr for MessageId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (row, nonce) = text.split_once('-')?;
            let row: i64 = row.parse().ok().filter(|row| *row > 0)?;
            let plain = nonce.len() == 16 && nonce.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            let nonce = u64::from_str_radix(nonce, 16).ok().filter(|_| plain)?;
            Some(MessageId::new(row, i64::from_ne_bytes(nonce.to_ne_bytes())))
        };
        parse().ok_or_else(|| Error::Invalid {
            field: "message id",
            why: format!(
                "is {text:?}; it looks like 42-0123456789abcdef: the row's number, a dash, 16 hexadecimal digits"
            ),
        })
    }
}
