//! As much of MQTT 5's packets as the proxy must understand.

use std::io::Read;
use std::net::TcpStream;

use super::Published;

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
    pub fn read(from: &mut TcpStream) -> Option<Self> {
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

    /// The reason code of an acknowledgement, which is left out where it is success.
    pub fn reason(&self) -> u8 {
        self.bytes.get(self.body + 2).copied().unwrap_or(0)
    }

    /// What a PUBLISH says.
    pub fn publish(&self, connection: usize) -> Published {
        let qos = self.bytes[0] >> 1 & 3;
        let mut rest = &self.bytes[self.body..];
        let topic = String::from_utf8(string(&mut rest).to_vec()).expect("topics are UTF-8");
        let packet_id = if qos == 0 { 0 } else { number(&mut rest) };
        let mut length = 0;
        for shift in (0..).step_by(7) {
            let byte = take(&mut rest, 1)[0];
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        take(&mut rest, length);
        Published { connection, topic, qos, packet_id, payload: rest.to_vec() }
    }
}

/// PUBACK, PUBREC or PUBCOMP with a reason.
pub fn answer(kind: u8, id: u16, reason: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![kind << 4, 3, high, low, reason]
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
