//! Why a session ended, in words, and how soon the next one makes sense.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use super::decode::{Connack, shown};
use super::settings::Protocol;
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

#[cfg(feature = "tls")]
pub(super) fn refused_for(words: impl Into<String>, source: impl StdError + Send + Sync + 'static) -> Down {
    Down::Refused(Box::new(Failure { words: words.into(), source: Some(Box::new(source)) }))
}

pub(super) fn caused(words: &str, source: impl StdError + Send + Sync + 'static) -> Down {
    Down::Unreachable(Box::new(Failure { words: words.to_owned(), source: Some(Box::new(source)) }))
}

pub(super) fn no_thread(error: io::Error) -> Down {
    caused("the session could not be started", error)
}

pub(super) fn no_connection(host: &str, port: u16, error: io::Error) -> Down {
    caused(&format!("no connection to {host}:{port}"), error)
}

pub(super) fn no_answer(within: Duration) -> Down {
    unreachable(format!("no session within {within:?}: the broker did not answer, or its name did not resolve"))
}

pub(super) fn broken(error: io::Error) -> Down {
    caused("the connection to the broker broke", error)
}

pub(super) fn closed() -> Down {
    // mosquitto 2.0 does so when another client takes the session over, too
    unreachable(
        "the broker closed the connection and gave no reason; if it goes on: does another client use this client id?",
    )
}

/// The connection ended before the broker answered CONNECT, in the clear: it may have been the wrong door.
pub(super) fn unanswered(why: Down) -> Down {
    match why {
        Down::Unreachable(source) => Down::Unreachable(Box::new(Failure {
            words:
                "the broker ended the connection before it answered CONNECT; if it always does: does this port want \
                    TLS (mqtts://), or another version of MQTT (protocol)?"
                    .to_owned(),
            source: Some(source),
        })),
        other => other,
    }
}

pub(super) fn no_pong() -> Down {
    unreachable("the broker did not answer a ping within the keep-alive time")
}

pub(super) fn malformed(what: &str) -> Down {
    unreachable(format!("the broker does not speak MQTT as we do: {what}"))
}

pub(super) fn out_of_step(packet: impl fmt::Debug, id: u16) -> Down {
    unreachable(format!("{packet:?} for packet id {id} fits nothing that is in flight"))
}

pub(super) fn panicked(said: Box<dyn std::any::Any + Send>) -> Down {
    let said = said.downcast_ref::<&str>().copied().or_else(|| said.downcast_ref::<String>().map(String::as_str));
    unreachable(format!("the MQTT session panicked, which is a bug: {}", said.unwrap_or("it did not say why")))
}

/// CONNACK with an error, in MQTT 5 by
/// [section 3.2.2.2](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Connect_Reason_Code), in MQTT
/// 3.1.1 by [table 3.1](https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html#_Table_3.1_-): their
/// codes do not overlap.
pub(super) fn connack(connack: &Connack, asked: Protocol) -> Down {
    let properties = connack.properties.as_ref();
    let words = properties.and_then(|properties| properties.reason_string.as_deref()).map(shown);
    let said = said(words.as_deref());
    match connack.code {
        0x01 | 0x84 => {
            let (this, other) = match asked {
                Protocol::V5 => ("5", "3.1.1"),
                Protocol::V311 => ("3.1.1", "5"),
            };
            refused(format!("the broker does not speak MQTT {this}: set protocol to {other}{said}"))
        }
        0x02 | 0x85 => refused(format!("the broker does not allow this client id{said}")),
        0x04 | 0x86 => refused(format!("the broker refused user name and password{said}")),
        0x05 | 0x87 => {
            refused(format!("the broker does not allow this client to connect (user, password, client id?){said}"))
        }
        0x8a => refused(format!("the broker has banned this client{said}")),
        0x8c => refused(format!("the broker wants another authentication method{said}")),
        0x90 | 0x99 | 0x9a | 0x9b => refused(format!("the broker does not take the last will{said}")),
        0x95 => refused(format!("the broker finds CONNECT too large: a shorter last will?{said}")),
        0x9c | 0x9d => moved(properties.and_then(|properties| properties.server_reference.as_deref()).map(shown)),
        0x03 | 0x88 => unreachable(format!("the broker is not available{said}")),
        0x89 => unreachable(format!("the broker is busy{said}")),
        0x97 => unreachable(format!("a quota of the broker is used up{said}")),
        0x9f => unreachable(format!("the broker takes no more connections just now{said}")),
        code => unreachable(format!("the broker refused the connection with reason code {code:#04x}{said}")),
    }
}

/// DISCONNECT from the broker: [section 3.14.2.1](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Disconnect_Reason_Code).
pub(super) fn disconnect(code: u8, reason: Option<&str>) -> Down {
    let said = said(reason);
    match code {
        0x87 => refused(format!("the broker ended the session: not authorised{said}")),
        0x8e => refused(
            "another client connected with the same client id, and the broker ended this session: give each its own",
        ),
        0x9c | 0x9d => moved(None),
        0x89 => unreachable(format!("the broker ended the session: it is busy{said}")),
        0x8b => unreachable(format!("the broker is shutting down{said}")),
        0x8d => unreachable(format!("the broker ended the session: it heard nothing for the keep-alive time{said}")),
        0x93 => unreachable(format!("the broker ended the session: more in flight than it takes{said}")),
        0x95 => unreachable(format!("the broker ended the session: a packet was too large{said}")),
        0x96 => unreachable(format!("the broker ended the session: messages came too fast{said}")),
        0x97 => unreachable(format!("the broker ended the session: a quota is used up{said}")),
        0x98 => unreachable(format!("the broker ended the session: somebody there wanted it so{said}")),
        0x9a => unreachable(format!("the broker ended the session: it takes no retained messages{said}")),
        0x9b => unreachable(format!("the broker ended the session: it does not take this QoS{said}")),
        code => unreachable(format!("the broker ended the session with reason code {code:#04x}{said}")),
    }
}

fn said(reason: Option<&str>) -> String {
    reason.map(|reason| format!(", and said: {reason}")).unwrap_or_default()
}

fn moved(to: Option<String>) -> Down {
    let to = to.map(|to| format!(", to {to}")).unwrap_or_default();
    refused(format!("the broker has moved{to}: set its new host"))
}
