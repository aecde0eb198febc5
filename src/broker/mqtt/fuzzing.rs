//! What the fuzz targets need of the inside: a URL for settings, and packets for what was read.

use std::fmt::Write as _;

use bytes::BytesMut;
use humantime_serde::re::humantime::format_duration;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::decode::{self, Answer, LARGEST, Packet, Step};
use super::{MqttSettings, Protocol};

/// The URL that says the same as settings that came from one.
pub(crate) fn to_url(settings: &MqttSettings) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut url = if settings.tls.is_some() { "mqtts://".to_owned() } else { "mqtt://".to_owned() };
    if settings.user.is_some() || settings.password.is_some() {
        url += &settings.user.as_deref().map_or_else(String::new, encode);
        if let Some(password) = &settings.password {
            url += ":";
            url += &encode(password);
        }
        url += "@";
    }
    url += &settings.host;
    if let Some(port) = settings.port {
        write!(url, ":{port}").expect("to a String");
    }
    let file = |path: &std::path::Path| encode(path.to_str().expect("it came from a URL"));
    let mut values = vec![
        ("protocol", settings.protocol.to_string()),
        ("keep_alive", encode(&format_duration(settings.keep_alive).to_string())),
        ("connect_timeout", encode(&format_duration(settings.connect_timeout).to_string())),
        ("window", settings.window.to_string()),
    ];
    values.extend(settings.client_id.as_deref().map(|id| ("client_id", encode(id))));
    values.extend(settings.user_file.as_deref().map(|path| ("user_file", file(path))));
    values.extend(settings.password_file.as_deref().map(|path| ("password_file", file(path))));
    if let Some(tls) = &settings.tls {
        values.extend(tls.ca_file.as_deref().map(|path| ("ca_file", file(path))));
        values.extend(tls.certificate_file.as_deref().map(|path| ("certificate_file", file(path))));
        values.extend(tls.key_file.as_deref().map(|path| ("key_file", file(path))));
        values.extend(tls.server_name.as_deref().map(|name| ("server_name", encode(name))));
    }
    let values: Vec<_> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
    url + "?" + &values.join("&")
}

/// What is read of bytes that come in these pieces, each packet and at last the mistake as they show themselves.
pub(crate) fn packets<'b>(protocol: Protocol, pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<String> {
    let (mut bytes, mut read) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        bytes.extend_from_slice(piece);
        loop {
            let before = bytes.len();
            match decode::next(&mut bytes, protocol) {
                Ok(Some(packet)) => {
                    assert!(bytes.len() < before, "a packet of no bytes");
                    read.push(format!("{packet:?}"));
                }
                Ok(None) => {
                    assert_eq!(bytes.len(), before, "taken away without an answer");
                    break;
                }
                Err(malformed) => {
                    assert!(malformed.0.len() > 10);
                    read.push(format!("{malformed:?}"));
                    return read;
                }
            }
        }
        assert!(bytes.len() < LARGEST, "more is waited for than a packet may be large");
    }
    read
}

/// A packet that was read is read again from the bytes that mean it.
pub(crate) fn assert_written_packets_are_read(protocol: Protocol, bytes: &mut BytesMut) {
    while let Ok(Some(packet)) = decode::next(bytes, protocol) {
        let written = match &packet {
            Packet::Answer(answer) => {
                assert_is_bearable(answer.said.as_deref());
                write_answer(answer)
            }
            Packet::Disconnect { code, said } => {
                assert_is_bearable(said.as_deref());
                let said = said.as_deref().filter(|said| is_plain(said));
                with_reason(0xe0, &[*code], said)
            }
            Packet::Connack(connack) if connack.is_v311 => {
                vec![0x20, 2, u8::from(connack.session_present), connack.code]
            }
            Packet::Pingresp => vec![0xd0, 0],
            Packet::Connack(_) | Packet::Other => continue,
        };
        let again = decode::next(&mut BytesMut::from(&written[..]), protocol).expect("it was read").expect("is whole");
        let words = |packet: &Packet| match packet {
            // What is shown of words is not always what was said.
            Packet::Answer(answer @ Answer { said: Some(said), .. }) if !is_plain(said) => {
                format!("{:?}", (answer.step, answer.id, answer.code))
            }
            Packet::Answer(answer @ Answer { said: None, .. }) => {
                format!("{:?}", (answer.step, answer.id, answer.code))
            }
            Packet::Disconnect { code, said } if !said.as_deref().is_some_and(is_plain) => format!("{code}"),
            packet => format!("{packet:?}"),
        };
        assert_eq!(words(&again), words(&packet));
    }
}

fn write_answer(answer: &Answer) -> Vec<u8> {
    let first = match answer.step {
        Step::Puback => 0x40,
        Step::Pubrec => 0x50,
        Step::Pubcomp => 0x70,
    };
    let [high, low] = answer.id.to_be_bytes();
    with_reason(first, &[high, low, answer.code], answer.said.as_deref().filter(|said| is_plain(said)))
}

fn with_reason(first: u8, body: &[u8], said: Option<&str>) -> Vec<u8> {
    let mut properties = Vec::new();
    if let Some(said) = said {
        properties.push(0x1f);
        properties.extend((said.len() as u16).to_be_bytes());
        properties.extend(said.as_bytes());
    }
    let mut after = body.to_vec();
    if !properties.is_empty() {
        varint(&mut after, properties.len());
        after.extend(properties);
    }
    let mut packet = vec![first];
    varint(&mut packet, after.len());
    packet.extend(after);
    packet
}

fn varint(to: &mut Vec<u8>, mut value: usize) {
    while value > 127 {
        to.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Whether it is shown as it is.
fn is_plain(said: &str) -> bool {
    said.chars().count() <= 256 && said.chars().all(|c| c.escape_debug().count() == 1)
}

/// One line, of a length that a log can bear.
fn assert_is_bearable(said: Option<&str>) {
    assert!(said.is_none_or(|said| said.len() <= 256 * 10 && !said.contains(char::is_control)), "{said:?}");
}
