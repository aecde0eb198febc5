//! Whether a message may be published, before a broker ends the session for it.

use rumqttc::v5::mqttbytes::v5::ConnAckProperties;

use super::encode::MAYBE;
use super::settings::Protocol;
use crate::broker::{Refusal, Verdict};
use crate::message::{DUPLICATE_HEADER, ID_HEADER};
use crate::{Message, QoS};

/// The most that one packet can carry behind its fixed header
/// ([MQTT 5, section 1.5.5](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Variable_Byte_Integer)).
const MOST_REMAINING: usize = 268_435_455;
/// The length of the longest [`MessageId`] on the wire: a row id of up to 2⁵³ − 1, a dash, 16 digits.
const LONGEST_ID: usize = 33;

/// What the broker said at the beginning of the session about the messages it takes.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub protocol: Protocol,
    /// Unanswered messages above QoS 0.
    pub window: u16,
    /// Bytes of a whole packet.
    pub packet: usize,
    pub qos: QoS,
    pub retain: bool,
}

impl Terms {
    /// From CONNACK: what it does not mention is unlimited, and MQTT 3.1.1 mentions nothing. `window` is our own limit.
    pub fn new(protocol: Protocol, window: u16, said: Option<&ConnAckProperties>) -> Self {
        Terms {
            protocol,
            window: said.and_then(|said| said.receive_max).map_or(window, |theirs| window.min(theirs)),
            packet: said
                .and_then(|said| said.max_packet_size)
                .filter(|size| *size > 0) // MQTT forbids 0, and it would refuse every message for ever
                .map_or(usize::MAX, |size| size as usize),
            qos: said.and_then(|said| said.max_qos).and_then(QoS::from_level).unwrap_or(QoS::ExactlyOnce),
            retain: said.and_then(|said| said.retain_available).is_none_or(|available| available != 0),
        }
    }

    /// Whether the protocol has no place for something that the message says.
    pub fn leaves_something_out(&self, message: &Message) -> bool {
        self.protocol == Protocol::V311
            && (!message.headers.is_empty()
                || message.content_type.is_some()
                || message.response_topic.is_some()
                || message.correlation_data.is_some())
    }

    /// Refuses what the broker would end the whole session for.
    pub fn admit(&self, id: &str, possible_duplicate: bool, message: &Message) -> Result<(), Refusal> {
        let never = |reason: String| Err(Refusal::new(Verdict::Never, reason));
        if let Err(broken) = message.check(usize::MAX) {
            return never(broken.to_string());
        }
        if message.qos > self.qos {
            return Err(Refusal::new(
                Verdict::Topic,
                format!("QoS {} is above the broker's maximum, {}", message.qos.level(), self.qos.level()),
            ));
        }
        if message.retain && !self.retain {
            // as with the QoS, it is the broker's configuration that is in the way, not the message
            return Err(Refusal::new(Verdict::Topic, "the broker does not keep retained messages"));
        }
        let remaining = remaining_length(self.protocol, message, id.len(), possible_duplicate);
        fits(remaining)?;
        let packet = 1 + varint_len(remaining) + remaining;
        if packet > self.packet {
            return never(format!("the packet takes {packet} bytes, the broker allows {}", self.packet));
        }
        Ok(())
    }
}

/// What holds for every MQTT broker.
pub(super) fn check(protocol: Protocol, message: &Message) -> Result<(), Refusal> {
    fits(remaining_length(protocol, message, LONGEST_ID, true))
}

fn fits(remaining: usize) -> Result<(), Refusal> {
    if remaining <= MOST_REMAINING {
        return Ok(());
    }
    let reason = format!("topic, headers and payload take {remaining} bytes, an MQTT packet carries {MOST_REMAINING}");
    Err(Refusal::new(Verdict::Never, reason))
}

/// The length of a PUBLISH without its fixed header, as
/// [section 3.3](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_PUBLISH_-_Publish) lays it out.
fn remaining_length(protocol: Protocol, message: &Message, id: usize, possible_duplicate: bool) -> usize {
    let packet_id = if message.qos == QoS::AtMostOnce { 0 } else { 2 };
    let plain = 2 + message.topic.len() + packet_id + message.payload.len();
    if protocol == Protocol::V311 {
        return plain;
    }
    let user_property = |name: usize, value: usize| 1 + 2 + name + 2 + value;
    let mut properties = user_property(ID_HEADER.len(), id);
    properties += message.headers.iter().map(|(name, value)| user_property(name.len(), value.len())).sum::<usize>();
    if possible_duplicate {
        properties += user_property(DUPLICATE_HEADER.len(), MAYBE.len());
    }
    properties += message.expiry.map_or(0, |_| 1 + 4);
    let string = |text: Option<usize>| text.map_or(0, |length| 1 + 2 + length);
    properties += string(message.content_type.as_ref().map(String::len));
    properties += string(message.response_topic.as_ref().map(String::len));
    properties += string(message.correlation_data.as_ref().map(Vec::len));
    plain + varint_len(properties) + properties
}

/// Bytes that MQTT's variable byte integer takes.
fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;

    use super::super::encode;
    use super::*;
    use crate::MessageId;

    fn encoded(protocol: Protocol, id: MessageId, duplicate: bool, message: Message) -> usize {
        let mut out = BytesMut::new();
        let packet_id = if message.qos == QoS::AtMostOnce { 0 } else { 7 };
        encode::publish(protocol, packet_id, id.to_string(), duplicate, message, &mut out).unwrap();
        out.len()
    }

    #[test]
    fn the_length_is_the_one_that_goes_over_the_wire() {
        let id = MessageId::new(9_007_199_254_740_991, -1);
        assert_eq!(id.to_string().len(), LONGEST_ID);
        for protocol in [Protocol::V5, Protocol::V311] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                for payload in [0, 1, 60, 127, 128, 16_383, 16_384, 2_097_152] {
                    for duplicate in [false, true] {
                        let message = Message::new("a/b", vec![0; payload])
                            .with_qos(qos)
                            .with_content_type("text/plain")
                            .with_header("unit", "celsius")
                            .with_expiry(Duration::from_millis(1_500))
                            .with_response_topic("answers/1")
                            .with_correlation_data([0, 1, 2]);
                        let remaining = remaining_length(protocol, &message, LONGEST_ID, duplicate);
                        let ours = 1 + varint_len(remaining) + remaining;
                        let theirs = encoded(protocol, id, duplicate, message);
                        assert_eq!(ours, theirs, "{protocol:?} {qos:?} {payload} {duplicate}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_no_packet_carries_is_refused_at_enqueue() {
        for protocol in [Protocol::V5, Protocol::V311] {
            assert_eq!(check(protocol, &Message::new("t", vec![0; 1000])), Ok(()));
            let refusal = check(protocol, &Message::new("t", vec![0; MOST_REMAINING])).unwrap_err();
            assert_eq!(refusal.verdict, Verdict::Never);
            assert!(refusal.reason.contains("268435455"), "{refusal}");
        }
    }
}
