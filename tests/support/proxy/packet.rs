//! As much of MQTT's packets, 5 and 3.1.1, as the proxy must understand.

use std::io::Read;

use super::Published;

/// The protocol level of MQTT 5 in CONNECT; that of 3.1.1 is 4.
pub const MQTT_5: u8 = 5;

pub const CONNECT: u8 = 1;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBCOMP: u8 = 7;

/// One packet, as it came.
pub struct Packet {
    bytes: Vec<u8>,
    /// Where the variable header begins.
    body: usize,
}

impl Packet {
    /// The next one, or none if the connection has ended.
    pub fn read(from: &mut impl Read) -> Option<Self> {
        let mut bytes = vec![0];
        from.read_exact(&mut bytes).ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let mut byte = [0];
            from.read_exact(&mut byte).ok()?;
            bytes.push(byte[0]);
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let body = bytes.len();
        bytes.resize(body + length, 0);
        from.read_exact(&mut bytes[body..]).ok()?;
        Some(Packet { bytes, body })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn kind(&self) -> u8 {
        self.bytes[0] >> 4
    }

    /// Whether it answers a PUBLISH or a PUBREL.
    pub fn is_ack(&self) -> bool {
        matches!(self.kind(), PUBACK | PUBREC | PUBCOMP)
    }

    /// The packet id of an acknowledgement.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.bytes[self.body], self.bytes[self.body + 1]])
    }

    /// The reason code of an acknowledgement, which is left out where it is success, and always in MQTT 3.1.1.
    pub fn reason(&self) -> u8 {
        self.bytes.get(self.body + 2).copied().unwrap_or(0)
    }

    /// The protocol level that a CONNECT announces, behind the protocol's name.
    pub fn level(&self) -> u8 {
        let mut rest = &self.bytes[self.body..];
        string(&mut rest);
        take(&mut rest, 1)[0]
    }

    /// What a PUBLISH says on a connection of this protocol level.
    pub fn publish(&self, connection: usize, level: u8) -> Published {
        let qos = self.bytes[0] >> 1 & 3;
        let mut rest = &self.bytes[self.body..];
        let topic = String::from_utf8(string(&mut rest).to_vec()).expect("topics are UTF-8");
        let packet_id = if qos == 0 { 0 } else { number(&mut rest) };
        if level >= MQTT_5 {
            let properties = varint(&mut rest);
            take(&mut rest, properties);
        }
        Published { connection, topic, qos, packet_id, payload: rest.to_vec() }
    }
}

/// PUBACK, PUBREC or PUBCOMP with a reason.
pub fn answer(kind: u8, id: u16, reason: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![kind << 4, 3, high, low, reason]
}

/// CONNACK that turns a client away: the server is not available.
pub fn refusing_connack(level: u8) -> Vec<u8> {
    if level >= MQTT_5 { vec![0x20, 3, 0, 0x88, 0] } else { vec![0x20, 2, 0, 3] }
}

/// DISCONNECT with a reason and nothing behind it.
pub fn disconnect(reason: u8) -> Vec<u8> {
    vec![0xE0, 1, reason]
}

fn take<'b>(rest: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken
}

fn number(rest: &mut &[u8]) -> u16 {
    let bytes = take(rest, 2);
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn string<'b>(rest: &mut &'b [u8]) -> &'b [u8] {
    let length = number(rest);
    take(rest, length.into())
}

fn varint(rest: &mut &[u8]) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(rest, 1)[0];
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT_5: &[u8] = b"\x10\x0e\0\x04MQTT\x05\x02\0\x1e\0\0\x01c";
    const CONNECT_311: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x1e\0\x01c";

    fn read(mut bytes: &[u8]) -> Packet {
        let packet = Packet::read(&mut bytes).unwrap();
        assert_eq!(bytes, b"", "it is read whole");
        packet
    }

    #[test]
    fn a_connection_says_which_protocol_it_speaks() {
        assert_eq!(read(CONNECT_5).level(), 5);
        assert_eq!(read(CONNECT_311).level(), 4);
    }

    #[test]
    fn a_publish_has_properties_in_mqtt_5_and_none_in_3_1_1() {
        let of_5 = read(b"\x32\x0e\0\x01t\0\x07\x06\x26\0\x01a\0\0!!").publish(3, 5);
        assert_eq!((of_5.topic.as_str(), of_5.packet_id, of_5.text()), ("t", 7, "!!"));
        let of_311 = read(b"\x34\x07\0\x01t\0\x07!!").publish(3, 4);
        assert_eq!((of_311.topic.as_str(), of_311.qos, of_311.packet_id, of_311.text()), ("t", 2, 7, "!!"));
    }

    #[test]
    fn an_acknowledgement_without_a_reason_is_success() {
        assert_eq!((read(b"\x40\x02\0\x07").id(), read(b"\x40\x02\0\x07").reason()), (7, 0));
        assert_eq!(read(&answer(PUBREC, 7, 0x87)).reason(), 0x87);
    }
}
