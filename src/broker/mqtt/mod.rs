//! The adapter for MQTT. Nothing else in the crate names rumqttc or rustls.
//!
//! `Mqtt` stands on the forwarder's thread and never waits. Each session has a thread of its own, which waits in one
//! place for the forwarder, the broker and the clock, and takes all that it knows with it when it ends: nothing of an
//! earlier connection can be taken for something of a later one.
//!
//! ```text
//! forwarder's thread │ session's thread
//!   Mqtt ── Inbox ───┼──► Session ── encode ──► Wire ── Transport ──► broker
//!                    │      Flight ◄── decode ────┘
//!   Mailbox ◄────────┼── Receipt, Link
//! ```
//!
//! rumqttc is here for its codecs. Its event loop is not run: it sends a message per system call, loses what is in
//! flight when its future is dropped, stalls behind a full socket, and forgets, leaks or reuses packet ids when a
//! session breaks or a broker refuses. docs/design.md says what was measured.

mod decode;
mod dialer;
mod encode;
mod failure;
mod flight;
#[cfg(all(any(test, fuzzing), feature = "tls"))]
pub(crate) mod fuzzing;
mod inbox;
mod keep_alive;
mod publish;
mod reason;
mod session;
mod settings;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod url;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use self::dialer::Dialer;
use self::inbox::Inbox;
pub use self::settings::{LastWill, MqttSettings, Protocol, TlsSettings};
use super::{Broker, Check, Delivery, Link};
use crate::Error;

/// Forwards to an MQTT broker: MQTT 5 or 3.1.1, over TCP or TLS.
///
/// ```no_run
/// use edge_outbox::broker::Mqtt;
///
/// let broker = Mqtt::from_url("mqtt://gateway:s3cret@broker.example:1883?keep_alive=15s")?;
/// # Ok::<(), edge_outbox::Error>(())
/// ```
///
/// *What counts as sent.* QoS 1: PUBACK with success. QoS 2: PUBCOMP. QoS 0: handed to the kernel. "No matching
/// subscribers" is success too: the broker has the message.
///
/// *On the wire.* The message's headers are user properties, in their order. Behind them stands `id`, the
/// [`MessageId`](crate::MessageId), by which a consumer recognises a repetition, and `duplicate` = `maybe` where one is
/// possible. Content type, response topic, correlation data and expiry, in whole seconds, are MQTT's own. The key is
/// not sent.
///
/// *MQTT 3.1.1* carries topic, payload, QoS and retain, and nothing else: no headers, no `id`. Where a consumer must
/// recognise repetitions, put an id of your own into the payload. Its brokers cannot refuse a message either: they
/// hang up, or acknowledge it and drop it, as mosquitto does with topics that its access list forbids.
///
/// *Sessions.* Always clean: the table is the session, and a broker's memory of an earlier one could only contradict
/// it.
///
/// *The window.* At most [`MqttSettings::window`] messages are unanswered, fewer if the broker says so. mosquitto
/// allows MQTT 5 clients 20 unless its `max_inflight_messages` is raised, which on a link of 40 ms is 500 messages a
/// second at most.
pub struct Mqtt {
    settings: Arc<MqttSettings>,
    client_id: String,
    dialer: Dialer,
    warned: Arc<AtomicBool>,
    session: Option<Arc<Inbox>>,
}

impl Mqtt {
    /// An adapter for these settings. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Settings`] with all that is wrong, in words.
    pub fn new(settings: MqttSettings) -> Result<Mqtt, Error> {
        settings.check()?;
        let client_id = settings.client_id.clone().unwrap_or_else(settings::derived_client_id);
        Ok(Mqtt {
            settings: Arc::new(settings),
            client_id,
            dialer: Dialer::default(),
            warned: Arc::default(),
            session: None,
        })
    }

    /// An adapter for the broker at `url`: see [`MqttSettings::from_url`].
    ///
    /// # Errors
    /// [`Error::Settings`] with all that is wrong, in words, and without the URL's credentials.
    pub fn from_url(url: &str) -> Result<Mqtt, Error> {
        Mqtt::new(MqttSettings::from_url(url)?)
    }

    /// The name under which this client goes with the broker: the one that was set, or the one that was derived.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }
}

impl Broker for Mqtt {
    fn connect(&mut self, link: Link) {
        self.disconnect(Instant::now()); // two sessions of one client id would throw each other out
        let inbox = match Inbox::new() {
            Ok(inbox) => Arc::new(inbox),
            Err(error) => return link.down(failure::no_thread(error)),
        };
        self.session = Some(Arc::clone(&inbox));
        let plan = session::Plan {
            settings: Arc::clone(&self.settings),
            client_id: self.client_id.clone(),
            dialer: self.dialer.clone(),
            warned: Arc::clone(&self.warned),
        };
        session::start(plan, inbox, link);
    }

    fn send(&mut self, queue: &mut VecDeque<Delivery>) {
        if let Some(session) = &self.session {
            session.put(queue);
        }
    }

    fn disconnect(&mut self, until: Instant) {
        if let Some(session) = &self.session {
            session.stop(until);
        }
    }

    fn ping(&mut self) {
        if let Some(session) = &self.session {
            session.ping();
        }
    }

    fn check(&self) -> Option<Check> {
        let protocol = self.settings.protocol;
        Some(Arc::new(move |message| publish::check(protocol, message)))
    }
}

/// Ends the session at once, without waiting for it.
impl Drop for Mqtt {
    fn drop(&mut self) {
        self.disconnect(Instant::now());
    }
}

impl fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mqtt")
            .field("settings", &self.settings)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}
