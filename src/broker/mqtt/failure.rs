//! Why a session ended, in words, and how soon the next one makes sense.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use rumqttc::v5::mqttbytes::Error as CodecError;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode};
use rumqttc::v5::{ConnectionError, StateError};

use crate::broker::{Cause, Down};

/// The error behind the end of an MQTT session. No text of it holds credentials or a payload.
#[derive(Debug)]
struct Failure {
    words: String,
    source: Option<Cause>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

pub(super) fn unreachable(words: impl Into<String>) -> Down {
    Down::Unreachable(Box::new(Failure { words: words.into(), source: None }))
}

pub(super) fn refused(words: impl Into<String>) -> Down {
    Down::Refused(Box::new(Failure { words: words.into(), source: None }))
}

pub(super) fn no_thread(error: io::Error) -> Down {
    caused("the session's thread could not be started", error)
}

pub(super) fn no_answer(within: Duration) -> Down {
    unreachable(format!("no session within {within:?}: the broker did not answer, or its name did not resolve"))
}

pub(super) fn panicked(said: Box<dyn std::any::Any + Send>) -> Down {
    let said = said.downcast_ref::<&str>().copied().or_else(|| said.downcast_ref::<String>().map(String::as_str));
    unreachable(format!("the MQTT session panicked, which is a bug: {}", said.unwrap_or("it did not say why")))
}

fn caused(words: &str, source: impl StdError + Send + Sync + 'static) -> Down {
    Down::Unreachable(Box::new(Failure { words: words.to_owned(), source: Some(Box::new(source)) }))
}

/// What rumqttc ended the connection for.
pub(super) fn down(error: ConnectionError) -> Down {
    match error {
        ConnectionError::ConnectionRefused(code) => connack(code),
        ConnectionError::Io(error) => caused("the connection to the broker failed", error),
        ConnectionError::Timeout(_) => unreachable("the broker did not answer"),
        // its Display is the packet, which could be anything
        ConnectionError::NotConnAck(_) => unreachable("the broker answered CONNECT with something else than CONNACK"),
        ConnectionError::MqttState(error) => state(error),
        other => caused("the connection to the broker failed", other),
    }
}

fn state(error: StateError) -> Down {
    match error {
        StateError::Io(error) | StateError::Deserialization(CodecError::Io(error)) => {
            caused("the connection to the broker broke", error)
        }
        // also where a DISCONNECT stops behind its reason code, as MQTT allows and mosquitto does: rumqttc misses it
        StateError::ConnectionAborted => unreachable("the broker closed the connection, for no reason that was seen"),
        StateError::AwaitPingResp => unreachable("the broker did not answer a ping within the keep-alive time"),
        StateError::ServerDisconnect { reason_code, reason_string } => {
            disconnect(reason_code, reason_string.as_deref())
        }
        StateError::ConnFail { reason } => connack(reason),
        other => caused("the broker, or the client, broke the protocol", other),
    }
}

/// CONNACK with an error: [section 3.2.2.2](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Connect_Reason_Code).
fn connack(code: ConnectReturnCode) -> Down {
    use ConnectReturnCode as Code;
    match code {
        Code::BadUserNamePassword => refused("the broker refused user name and password"),
        Code::NotAuthorized => refused("the broker does not allow this client to connect (user, password, client id?)"),
        Code::Banned => refused("the broker has banned this client"),
        Code::BadClientId | Code::ClientIdentifierNotValid => refused("the broker does not allow this client id"),
        Code::BadAuthenticationMethod => refused("the broker wants another authentication method"),
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => refused("the broker does not speak MQTT 5"),
        Code::UseAnotherServer | Code::ServerMoved => refused("the broker has moved: set its new host"),
        Code::ServerUnavailable | Code::ServiceUnavailable => unreachable("the broker is not available"),
        Code::ServerBusy => unreachable("the broker is busy"),
        Code::ConnectionRateExceeded => unreachable("the broker takes no more connections just now"),
        other => unreachable(format!("the broker refused the connection: {other:?}")),
    }
}

/// DISCONNECT from the broker: [section 3.14.2.1](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Disconnect_Reason_Code).
fn disconnect(code: DisconnectReasonCode, said: Option<&str>) -> Down {
    use DisconnectReasonCode as Code;
    match code {
        Code::SessionTakenOver => refused(
            "another client connected with the same client id, and the broker ended this session: give each its own",
        ),
        Code::UseAnotherServer | Code::ServerMoved => refused("the broker has moved: set its new host"),
        Code::ServerShuttingDown => unreachable("the broker is shutting down"),
        other => {
            let said = said.map(|said| format!(", and said: {said}")).unwrap_or_default();
            unreachable(format!("the broker ended the session: {other:?}{said}"))
        }
    }
}

/// Whether the broker answered a PUBLISH with 0x95, which rumqttc takes for a broken packet.
pub(super) fn is_too_large(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::MqttState(StateError::Deserialization(CodecError::InvalidConnectReturnCode(0x95))))
}
