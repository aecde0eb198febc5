//! What the broker says, packet by packet.
//!
//! CONNACK is read by rumqttc. The answers to messages and DISCONNECT are read here: rumqttc ends the connection over
//! reason codes that it does not know, which brokers do send (mosquitto answers a PUBLISH with 0x95), and over a
//! DISCONNECT that stops behind its reason code, as MQTT 5 allows.

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{self, ConnAckProperties};

use super::settings::Protocol;

/// The largest packet that a broker may send us, in bytes: we get answers only, and this leaves room for their words.
pub(super) const LARGEST: usize = 16_384;
/// How much of the broker's own words is kept, in characters.
const LONGEST_WORDS: usize = 256;

/// A packet from the broker.
#[derive(Debug)]
pub(super) enum Packet {
    Connack(Connack),
    Answer(Answer),
    Pingresp,
    Disconnect {
        code: u8,
        said: Option<String>,
    },
    /// Nothing that a client which only publishes has to know.
    Other,
}

#[derive(Debug)]
pub(super) struct Connack {
    pub code: u8,
    /// The broker claims to remember a session of ours.
    pub session_present: bool,
    /// It has the shape of MQTT 3.1.1, which has no place for properties.
    pub is_v311: bool,
    pub properties: Option<ConnAckProperties>,
}

/// PUBACK, PUBREC or PUBCOMP.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub step: Step,
    /// The packet id.
    pub id: u16,
    /// The reason code; 0 is success, and all that MQTT 3.1.1 knows.
    pub code: u8,
    /// The reason in the broker's words.
    pub said: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Puback,
    Pubrec,
    Pubcomp,
}

/// No packet that MQTT knows: what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub &'static str);

/// Takes the next packet off the front of `bytes`, once it is whole.
pub(super) fn next(bytes: &mut BytesMut, protocol: Protocol) -> Result<Option<Packet>, Malformed> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    if first == 0x15 {
        return Err(Malformed("it sent a TLS record: set mqtts://, or the port for plain MQTT")); // an alert
    }
    // what a broker may begin a packet with; PUBLISH has flags, PUBREL one that never changes
    let begins = matches!((first >> 4, first & 0x0f), (3, _) | (6, 2) | (2 | 4 | 5 | 7 | 9 | 11 | 13 | 14 | 15, 0));
    if !begins {
        return Err(Malformed("what it sent begins like no packet of a broker"));
    }
    let Some((remaining, digits)) = varint(rest)? else { return Ok(None) };
    let length = 1 + digits + remaining;
    if length > LARGEST {
        return Err(Malformed("a packet larger than the 16,384 bytes that an answer can have"));
    }
    if bytes.len() < length {
        return Ok(None);
    }
    let frame = bytes.split_to(length);
    packet(frame, 1 + digits, protocol).map(Some)
}

fn packet(frame: BytesMut, head: usize, protocol: Protocol) -> Result<Packet, Malformed> {
    let body = &frame[head..];
    match frame[0] >> 4 {
        2 => connack(frame, head, protocol),
        4 => answer(Step::Puback, body),
        5 => answer(Step::Pubrec, body),
        7 => answer(Step::Pubcomp, body),
        13 => Ok(Packet::Pingresp),
        14 => Ok(Packet::Disconnect {
            code: body.first().copied().unwrap_or(0),
            said: body.get(1..).and_then(reason_string),
        }),
        _ => Ok(Packet::Other),
    }
}

fn connack(mut frame: BytesMut, head: usize, protocol: Protocol) -> Result<Packet, Malformed> {
    let [flags, code, properties @ ..] = &frame[head..] else {
        return Err(Malformed("a CONNACK without a reason"));
    };
    let (code, session_present) = (*code, *flags != 0);
    let is_v311 = protocol == Protocol::V311 || properties.is_empty();
    if is_v311 {
        return Ok(Packet::Connack(Connack { code, session_present, is_v311, properties: None }));
    }
    let properties = match v5::Packet::read(&mut frame, None) {
        Ok(v5::Packet::ConnAck(connack)) => connack.properties,
        _ if code != 0 => None, // a refusal without its words is a refusal
        _ => return Err(Malformed("a CONNACK that cannot be read")),
    };
    Ok(Packet::Connack(Connack { code, session_present, is_v311, properties }))
}

fn answer(step: Step, body: &[u8]) -> Result<Packet, Malformed> {
    let [high, low, rest @ ..] = body else {
        return Err(Malformed("an answer without a packet id"));
    };
    let (code, properties) = rest.split_first().map_or((0, &[][..]), |(code, properties)| (*code, properties));
    let id = u16::from_be_bytes([*high, *low]);
    Ok(Packet::Answer(Answer { step, id, code, said: reason_string(properties) }))
}

/// MQTT's variable byte integer at the front of `bytes` and how many bytes it takes, once they are all there.
fn varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0;
    for (nth, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * nth);
        if byte & 0x80 == 0 {
            return Ok(Some((value, nth + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed("a packet without an end")) }
}

/// The reason string among the properties that an answer or a DISCONNECT can have. It is for people: where the
/// properties cannot be read there is none.
fn reason_string(properties: &[u8]) -> Option<String> {
    let (length, digits) = varint(properties).ok()??;
    let mut rest = properties.get(digits..digits + length)?;
    while let Some((property, behind)) = rest.split_first() {
        rest = behind;
        match property {
            0x1f => return std::str::from_utf8(string(&mut rest)?).ok().map(shown),
            0x1c => drop(string(&mut rest)?), // server reference
            0x11 => rest = rest.get(4..)?,    // session expiry interval
            0x26 => {
                string(&mut rest)?; // user property: name
                string(&mut rest)?; // and value
            }
            _ => return None,
        }
    }
    None
}

/// A text from the network, for people: one line, of a length that a log can bear.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(LONGEST_WORDS).flat_map(char::escape_debug).collect()
}

fn string<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, behind) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let text = behind.get(..length)?;
    *rest = &behind[length..];
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Packet>, Malformed> {
        next(&mut BytesMut::from(bytes), Protocol::V5)
    }

    fn answer_of(bytes: &[u8]) -> Answer {
        match read(bytes) {
            Ok(Some(Packet::Answer(answer))) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_is_read_whatever_of_it_is_left_out() {
        let plain = Answer { step: Step::Puback, id: 0x0102, code: 0, said: None };
        assert_eq!(answer_of(&[0x40, 2, 1, 2]), plain);
        assert_eq!(answer_of(&[0x40, 3, 1, 2, 0]), plain);
        assert_eq!(answer_of(&[0x40, 4, 1, 2, 0, 0]), plain);
        let unknown = answer_of(&[0x50, 3, 0, 9, 0x95]);
        assert_eq!((unknown.step, unknown.id, unknown.code), (Step::Pubrec, 9, 0x95));
        let wordy = [0x70, 15, 0, 1, 0x92, 11, 0x26, 0, 1, b'a', 0, 0, 0x1f, 0, 2, b'n', b'o'];
        assert_eq!(answer_of(&wordy).said.as_deref(), Some("no"));
    }

    #[test]
    fn a_packet_is_taken_once_it_is_whole() {
        let packet = [0x40, 3, 0, 1, 0x10, 0xD0, 0];
        for cut in 0..5 {
            assert!(matches!(read(&packet[..cut]), Ok(None)), "{cut}");
        }
        let mut bytes = BytesMut::from(&packet[..]);
        assert!(matches!(next(&mut bytes, Protocol::V5), Ok(Some(Packet::Answer(_)))));
        assert!(matches!(next(&mut bytes, Protocol::V5), Ok(Some(Packet::Pingresp))));
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_disconnect_may_stop_behind_its_code_or_before() {
        assert!(matches!(read(&[0xE0, 1, 0x8E]), Ok(Some(Packet::Disconnect { code: 0x8E, said: None }))));
        assert!(matches!(read(&[0xE0, 0]), Ok(Some(Packet::Disconnect { code: 0, said: None }))));
    }

    #[test]
    fn what_is_no_packet_is_told_and_takes_no_memory() {
        assert!(read(&[0x40, 1, 0]).is_err());
        assert!(read(&[0x20, 1, 0]).is_err());
        assert!(read(&[0x00, 0]).is_err());
        assert!(read(b"HTTP/1.1 400").is_err());
        assert!(read(&[0x40, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert_eq!(
            read(&[0x30, 0xff, 0xff, 0x7f]).unwrap_err(),
            Malformed("a packet larger than the 16,384 bytes that an answer can have")
        );
        assert_eq!(
            read(&[0x15, 0x03, 0x03]).unwrap_err(),
            Malformed("it sent a TLS record: set mqtts://, or the port for plain MQTT")
        );
    }
}
