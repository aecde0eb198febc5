//! The last will.

use std::fmt;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::{Payload, QoS};

/// What the broker says in our name once the connection is lost without a good-bye.
///
/// ```
/// use edge_outbox::broker::LastWill;
///
/// let will = LastWill::text("status/roof", "lost").retained();
/// ```
///
/// It is the broker that says it, at its own time: it is no message of the outbox, stands in no table, and has no id.
/// A retained one needs somebody to take it back, for example a message `online`, enqueued by the application.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LastWill {
    /// Where to: a topic name, as in [`Message::topic`](crate::Message::topic).
    pub topic: String,
    /// What it says, at most 65,535 bytes. By serde it is text. Defaults to nothing.
    #[serde(default = "nothing", deserialize_with = "text")]
    pub payload: Payload,
    /// With which quality of service. Defaults to [`QoS::AtLeastOnce`].
    #[serde(default)]
    pub qos: QoS,
    /// Whether the broker keeps it as the topic's last message. Defaults to `false`.
    #[serde(default)]
    pub retain: bool,
}

impl LastWill {
    /// A last will of bytes.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self::with_payload(topic.into(), Payload::Bytes(payload.into()))
    }

    /// A last will of text.
    pub fn text(topic: impl Into<String>, payload: impl Into<String>) -> Self {
        Self::with_payload(topic.into(), Payload::Text(payload.into()))
    }

    fn with_payload(topic: String, payload: Payload) -> Self {
        LastWill { topic, payload, qos: QoS::default(), retain: false }
    }

    /// Sets the [`qos`](Self::qos).
    pub fn with_qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Sets [`retain`](Self::retain): the broker keeps it as the topic's last message.
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }
}

fn nothing() -> Payload {
    Payload::Text(String::new())
}

/// What serde says of a value that is not text repeats the value, which is a payload.
fn text<'de, D: Deserializer<'de>>(input: D) -> Result<Payload, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Found {
        Text(String),
        Other(IgnoredAny),
    }
    match Found::deserialize(input)? {
        Found::Text(text) => Ok(Payload::Text(text)),
        Found::Other(_) => Err(D::Error::custom("the payload of a last will is text: put it in quotes")),
    }
}

/// Shows the payload's size, never what it says.
impl fmt::Debug for LastWill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastWill")
            .field("topic", &self.topic)
            .field("payload", &self.payload)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish()
    }
}
