//! What we say to the broker, by rumqttc's codecs.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{self, v4};
use rumqttc::v5::mqttbytes::v5::{self, ConnectProperties, PublishProperties};
use rumqttc::v5::mqttbytes::{self as v5bytes};

use super::decode::LARGEST;
use super::settings::{LastWill, Protocol};
use crate::message::{DUPLICATE_HEADER, ID_HEADER};
use crate::{Message, QoS};

/// The value of [`DUPLICATE_HEADER`].
pub(super) const MAYBE: &str = "maybe";

/// It does not fit into a packet.
#[derive(Debug)]
pub(super) struct TooLarge;

/// As whom, and with what, a session is asked for.
pub(super) struct Hello<'a> {
    pub client_id: &'a str,
    /// Whole seconds.
    pub keep_alive: u16,
    pub user: Option<&'a str>,
    pub password: Option<&'a str>,
    pub last_will: Option<&'a LastWill>,
}

/// CONNECT. Always for a clean session: the table is the session.
pub(super) fn connect(protocol: Protocol, hello: &Hello<'_>, out: &mut BytesMut) -> Result<(), TooLarge> {
    // the codecs leave out what is empty, and the settings allow no user name and no password that are
    let has_login = hello.user.is_some() || hello.password.is_some();
    let (user, password) = (hello.user.unwrap_or_default(), hello.password.unwrap_or_default());
    let will = hello.last_will;
    match protocol {
        Protocol::V5 => {
            let connect = v5::Connect {
                keep_alive: hello.keep_alive,
                client_id: hello.client_id.to_owned(),
                clean_start: true,
                properties: Some(ConnectProperties {
                    max_packet_size: u32::try_from(LARGEST).ok(),
                    ..ConnectProperties::new()
                }),
            };
            let will = will.map(|will| v5::LastWill {
                topic: Bytes::from(will.topic.clone()),
                message: Bytes::copy_from_slice(will.payload.as_bytes()),
                qos: v5_level(will.qos),
                retain: will.retain,
                properties: None,
            });
            let login = has_login.then(|| v5::Login::new(user, password));
            done(connect.write(&will, &login, out))
        }
        Protocol::V311 => {
            let mut connect = v4::Connect::new(hello.client_id);
            connect.keep_alive = hello.keep_alive;
            connect.last_will = will.map(|will| v4::LastWill {
                topic: will.topic.clone(),
                message: Bytes::copy_from_slice(will.payload.as_bytes()),
                qos: v4_level(will.qos),
                retain: will.retain,
            });
            connect.login = has_login.then(|| v4::Login { username: user.to_owned(), password: password.to_owned() });
            done(connect.write(out))
        }
    }
}

/// PUBLISH; with MQTT 3.1.1 topic and payload alone. `packet_id` is 0 with QoS 0.
pub(super) fn publish(
    protocol: Protocol,
    packet_id: u16,
    id: String,
    possible_duplicate: bool,
    message: Message,
    out: &mut BytesMut,
) -> Result<(), TooLarge> {
    match protocol {
        Protocol::V5 => done(v5_publish(packet_id, id, possible_duplicate, message).write(out)),
        Protocol::V311 => {
            let (qos, payload) = (v4_level(message.qos), Bytes::from(message.payload.into_bytes()));
            let mut publish = v4::Publish::from_bytes(message.topic, qos, payload);
            (publish.pkid, publish.retain) = (packet_id, message.retain);
            done(publish.write(out))
        }
    }
}

pub(super) fn v5_publish(packet_id: u16, id: String, possible_duplicate: bool, message: Message) -> v5::Publish {
    let mut user_properties = message.headers;
    user_properties.push((ID_HEADER.to_owned(), id));
    if possible_duplicate {
        user_properties.push((DUPLICATE_HEADER.to_owned(), MAYBE.to_owned()));
    }
    v5::Publish {
        // DUP speaks of this session, and what a message was sent in before is another one
        dup: false,
        qos: v5_level(message.qos),
        retain: message.retain,
        topic: Bytes::from(message.topic),
        pkid: packet_id,
        payload: Bytes::from(message.payload.into_bytes()),
        properties: Some(PublishProperties {
            message_expiry_interval: message.expiry.map(whole_seconds),
            content_type: message.content_type,
            response_topic: message.response_topic,
            correlation_data: message.correlation_data.map(Bytes::from),
            user_properties,
            ..PublishProperties::default()
        }),
    }
}

/// What MQTT can say of an expiry: whole seconds, and never less than there is left.
fn whole_seconds(expiry: Duration) -> u32 {
    let seconds = expiry.as_secs() + u64::from(expiry.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// PUBREL, the same bytes in both protocols.
pub(super) fn pubrel(packet_id: u16, out: &mut BytesMut) -> Result<(), TooLarge> {
    done(v4::PubRel::new(packet_id).write(out))
}

/// PINGREQ, the same bytes in both protocols.
pub(super) fn pingreq(out: &mut BytesMut) -> Result<(), TooLarge> {
    done(v4::PingReq.write(out))
}

/// DISCONNECT, the same bytes in both protocols.
pub(super) fn disconnect(out: &mut BytesMut) -> Result<(), TooLarge> {
    done(v4::Disconnect.write(out))
}

fn done<E>(written: Result<usize, E>) -> Result<(), TooLarge> {
    written.map(drop).map_err(|_| TooLarge)
}

fn v5_level(qos: QoS) -> v5bytes::QoS {
    match qos {
        QoS::AtMostOnce => v5bytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => v5bytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => v5bytes::QoS::ExactlyOnce,
    }
}

fn v4_level(qos: QoS) -> mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => mqttbytes::QoS::ExactlyOnce,
    }
}
