//! One session: its thread, from CONNECT to DISCONNECT.

use std::collections::VecDeque;
use std::future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnAckProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use rumqttc::{NetworkOptions, Outgoing};
use tokio::time::{sleep, sleep_until, timeout};

use super::flight::{Flight, OutOfStep, Stage};
use super::inbox::Inbox;
use super::publish::{self, Terms};
use super::reason::{self, Answer};
use super::settings::Credentials;
use super::{MqttSettings, failure};
use crate::QoS;
use crate::broker::{Delivery, Down, Limits, Link, Receipt};

/// Largest packet that a broker may send us, in bytes: we get answers only, and this leaves room for their words.
const LARGEST_ANSWER: u32 = 16_384;
/// How long DISCONNECT may take to leave.
const FAREWELL: Duration = Duration::from_millis(500);

/// What to connect to, and as whom.
pub(super) struct Plan {
    pub settings: Arc<MqttSettings>,
    pub client_id: String,
}

impl Plan {
    fn options(&self, credentials: Credentials) -> MqttOptions {
        let settings = &self.settings;
        let mut options = MqttOptions::new(self.client_id.clone(), settings.address_host(), settings.port());
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_network_options(network)
            .set_clean_start(true)
            .set_keep_alive(settings.keep_alive)
            .set_connection_timeout(settings.connect_timeout.as_secs() + 1) // ours is finer, and comes first
            .set_outgoing_inflight_upper_limit(settings.window)
            .set_max_packet_size(Some(LARGEST_ANSWER));
        if credentials.user.is_some() || credentials.password.is_some() {
            // what is empty is not sent
            options.set_credentials(credentials.user.unwrap_or_default(), credentials.password.unwrap_or_default());
        }
        options
    }
}

/// Begins a session in its own thread. Whatever becomes of it, `link` hears of it.
pub(super) fn start(plan: Plan, inbox: Arc<Inbox>, link: Link) {
    let (ours, spare) = (Arc::clone(&inbox), link.clone());
    let spawned = thread::Builder::new().name("edge-outbox-mqtt".to_owned()).spawn(move || live(&plan, &inbox, link));
    if let Err(error) = spawned {
        ours.close();
        spare.down(failure::no_thread(error));
    }
}

fn live(plan: &Plan, inbox: &Inbox, link: Link) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            inbox.close();
            return link.down(failure::no_thread(error));
        }
    };
    // rumqttc has places that panic; its state is thrown away with the session, so nothing broken is seen again
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(session(plan, inbox, &link))));
    inbox.close();
    match ended {
        Ok(Ended::Asked(None)) => drop(link),
        Ok(Ended::Asked(Some(farewell))) => {
            drop(link); // by now everything is settled or dropped, and the forwarder need not wait for good manners
            let _ = catch_unwind(AssertUnwindSafe(|| runtime.block_on(farewell.say(inbox))));
        }
        Ok(Ended::Down(why)) => link.down(why),
        Err(said) => link.down(failure::panicked(said)),
    }
    // not `drop`: that waits for getaddrinfo, which can hang for minutes
    runtime.shutdown_background();
}

enum Ended {
    /// The forwarder wanted it so; there may be somebody to say good-bye to.
    Asked(Option<Box<Farewell>>),
    Down(Down),
}

impl From<Down> for Ended {
    fn from(why: Down) -> Self {
        Ended::Down(why)
    }
}

async fn session(plan: &Plan, inbox: &Inbox, link: &Link) -> Ended {
    let window = plan.settings.window;
    let credentials = match plan.settings.credentials() {
        Ok(credentials) => credentials,
        Err(words) => return failure::refused(words).into(),
    };
    // room for a full window and for DISCONNECT: `try_publish` never finds the channel full
    let (client, mut events) = AsyncClient::new(plan.options(credentials), usize::from(window) + 1);

    let hello = tokio::select! {
        biased;
        () = told_to_stop(inbox) => return Ended::Asked(None),
        hello = timeout(plan.settings.connect_timeout, events.poll()) => hello,
    };
    let said = match hello {
        Ok(Ok(Event::Incoming(Incoming::ConnAck(ConnAck { properties, .. })))) => properties,
        Ok(Ok(_)) => return failure::unreachable("the session did not begin with CONNACK").into(),
        Ok(Err(error)) => return failure::down(error).into(),
        Err(_) => return failure::no_answer(plan.settings.connect_timeout).into(),
    };
    if wants_no_keep_alive(said.as_ref()) {
        // rumqttc would ping without a pause
        events.options.set_keep_alive(plan.settings.keep_alive);
    }

    let terms = Terms::new(window, said.as_ref());
    if terms.window == 0 {
        return failure::unreachable("the broker allows no message in flight, which MQTT forbids").into();
    }
    let limits = Limits { window: usize::from(terms.window), bytes: usize::MAX };
    let flight = Flight::new(terms.window);
    log::debug!("MQTT session with {}:{} stands: {terms:?}", plan.settings.host, plan.settings.port());
    link.up(limits);
    let mut session = Session { client, inbox, link, terms, flight, queue: VecDeque::new(), until: None };
    match session.converse(&mut events).await {
        Ok(Stop::Now) => Ended::Asked(None),
        Ok(Stop::Politely) => Ended::Asked(Some(Box::new(Farewell { client: session.client, events }))),
        Err(why) => Ended::Down(why),
    }
}

async fn told_to_stop(inbox: &Inbox) {
    // nothing is sent before `up`, so what is taken here can only be the word
    while inbox.take(&mut VecDeque::new()).is_none() {
        inbox.changed().await;
    }
}

fn wants_no_keep_alive(said: Option<&ConnAckProperties>) -> bool {
    said.is_some_and(|said| said.server_keep_alive == Some(0))
}

/// A session that stands.
struct Session<'a> {
    client: AsyncClient,
    inbox: &'a Inbox,
    link: &'a Link,
    terms: Terms,
    flight: Flight,
    /// Taken from the inbox, not yet handed to rumqttc.
    queue: VecDeque<Delivery>,
    /// By when everything must be settled or dropped, once the forwarder has said so.
    until: Option<Instant>,
}

enum Stop {
    Politely,
    Now,
}

/// Whether what an event says is beyond doubt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// rumqttc handed it out: what it says was written has reached the kernel.
    Flushed,
    /// It was found behind an error: what came in came in, but what was to go out may not have gone.
    Harvested,
}

impl Session<'_> {
    async fn converse(&mut self, events: &mut EventLoop) -> Result<Stop, Down> {
        loop {
            if self.flight.is_mendable() {
                // nothing is in flight, so there is nothing that this could forget, but the count that leaked
                let forgotten = events.state.clean();
                debug_assert!(forgotten.is_empty());
                self.flight.mended();
            }
            self.hand_over()?;
            let event = {
                // Dropping this future in the middle can lose a packet that rumqttc believes to be sent. So it is kept
                // until it is ready, and dropped only with the whole session.
                let mut poll = pin!(events.poll());
                loop {
                    if self.until.is_some() && self.queue.is_empty() && self.flight.is_idle() {
                        return Ok(Stop::Politely);
                    }
                    tokio::select! {
                        biased;
                        () = self.inbox.changed() => {
                            self.until = self.inbox.take(&mut self.queue);
                            if self.until.is_some_and(|until| until <= Instant::now()) {
                                return Ok(Stop::Now);
                            }
                            self.hand_over()?;
                        }
                        event = &mut poll => break event,
                        () = at(self.until) => return Ok(Stop::Politely),
                    }
                }
            };
            match event {
                Ok(event) => self.hear(event, Certainty::Flushed)?,
                Err(error) => return Err(self.salvage(error, events)),
            }
        }
    }

    /// Gives rumqttc what it can take, in order.
    fn hand_over(&mut self) -> Result<(), Down> {
        while let Some(next) = self.queue.front() {
            if !self.flight.has_room(next.message.qos) {
                break;
            }
            let Some(Delivery { id, possible_duplicate, message, receipt }) = self.queue.pop_front() else { break };
            if let Err(refusal) = self.terms.admit(id, possible_duplicate, &message) {
                receipt.reject(refusal);
                continue;
            }
            let properties = publish::properties(id, possible_duplicate, message.headers, message.content_type);
            let (qos, payload) = (message.qos, message.payload.into_bytes());
            self.client
                .try_publish_with_properties(message.topic, publish::level(qos), message.retain, payload, properties)
                .map_err(|_| failure::unreachable("the MQTT client took no message though it had room"))?;
            self.flight.hand_over(receipt, qos);
        }
        Ok(())
    }

    fn hear(&mut self, event: Event, certainty: Certainty) -> Result<(), Down> {
        match event {
            Event::Outgoing(Outgoing::Publish(id)) => {
                // QoS 0 is sent when the kernel has it, and no answer will ever say so
                match self.flight.sent(id).map_err(|out| out.down("PUBLISH", id))? {
                    Some(receipt) if certainty == Certainty::Flushed => receipt.acknowledge(),
                    _ => {}
                }
            }
            Event::Outgoing(Outgoing::AwaitAck(id)) => return Err(OutOfStep.down("a collision", id)),
            Event::Incoming(Incoming::PubAck(ack)) => {
                let receipt = self.finish(ack.pkid, QoS::AtLeastOnce, Stage::Sent, "PUBACK")?;
                settle(receipt, reason::puback(&ack))?;
            }
            Event::Incoming(Incoming::PubRec(rec)) => {
                let id = rec.pkid;
                match reason::pubrec(rec) {
                    Answer::Accepted => self.flight.received(id).map_err(|out| out.down("PUBREC", id))?,
                    refused => {
                        let receipt = self.finish(id, QoS::ExactlyOnce, Stage::Sent, "PUBREC")?;
                        self.flight.leak();
                        settle(receipt, refused)?;
                    }
                }
            }
            Event::Incoming(Incoming::PubComp(comp)) => {
                let receipt = self.finish(comp.pkid, QoS::ExactlyOnce, Stage::Received, "PUBCOMP")?;
                let answer = reason::pubcomp(&comp);
                if answer != Answer::Accepted {
                    self.flight.leak();
                }
                settle(receipt, answer)?;
            }
            Event::Incoming(Incoming::PingResp(_)) => self.link.alive(),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, id: u16, qos: QoS, stage: Stage, packet: &str) -> Result<Receipt, Down> {
        self.flight.finish(id, qos, stage).map_err(|out| out.down(packet, id))
    }

    /// Answers that rumqttc had read before the error, but had not yet handed out, count.
    fn salvage(&mut self, error: rumqttc::v5::ConnectionError, events: &mut EventLoop) -> Down {
        while let Some(event) = events.state.events.pop_front() {
            if self.hear(event, Certainty::Harvested).is_err() {
                break; // the session ends anyway, and the error that ended it says more
            }
        }
        if failure::is_too_large(&error) {
            // whose answer it was rumqttc does not say, but there may be only one
            if let Some(receipt) = self.flight.take_only() {
                receipt.reject(reason::too_large());
                return Down::Recycled;
            }
        }
        failure::down(error)
    }
}

impl OutOfStep {
    fn down(&self, packet: &str, id: u16) -> Down {
        failure::unreachable(format!("{packet} for packet id {id} fits nothing that is in flight"))
    }
}

fn settle(receipt: Receipt, answer: Answer) -> Result<(), Down> {
    match answer {
        Answer::Accepted => receipt.acknowledge(),
        Answer::Refused(refusal) => receipt.reject(refusal),
        Answer::InUse => return Err(Down::Recycled),
    }
    Ok(())
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => future::pending().await,
    }
}

/// A connection that nobody waits for any more.
struct Farewell {
    client: AsyncClient,
    events: EventLoop,
}

impl Farewell {
    /// Sends DISCONNECT, unless that takes too long or there is no time for it.
    async fn say(mut self: Box<Self>, inbox: &Inbox) {
        let told_again = async {
            loop {
                inbox.changed().await;
                if inbox.take(&mut VecDeque::new()).is_some_and(|until| until <= Instant::now()) {
                    break;
                }
            }
        };
        let disconnect = async {
            if self.client.try_disconnect().is_ok() {
                while !matches!(self.events.poll().await, Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect))) {}
            }
        };
        tokio::select! {
            biased;
            () = told_again => {}
            () = disconnect => {}
            () = sleep(FAREWELL) => {}
        }
    }
}
