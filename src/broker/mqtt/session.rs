//! One session: its thread, from the connection to DISCONNECT.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::decode::{Answer, Connack, Packet, Step};
use super::dialer::Dialer;
use super::encode::{self, Hello, TooLarge};
use super::flight::Flight;
use super::inbox::{Inbox, Word};
use super::keep_alive::KeepAlive;
use super::publish::Terms;
use super::reason::{self, Meaning};
use super::transport::{Security, Transport};
use super::wire::{self, Wire};
use super::{MqttSettings, Protocol, failure};
use crate::broker::{Delivery, Down, Limits, Link, Refusal, Verdict};

/// No more is encoded while so many bytes stand unsent.
const AHEAD: usize = 64 * 1024;
/// How long DISCONNECT may take to leave, and the broker to close the connection upon it.
const FAREWELL: Duration = Duration::from_millis(500);

/// What to connect to, and as whom.
pub(super) struct Plan {
    pub settings: Arc<MqttSettings>,
    pub client_id: String,
    pub dialer: Dialer,
    /// Whether it was said before that MQTT 3.1.1 leaves something out.
    pub warned: Arc<AtomicBool>,
}

impl Plan {
    fn tell(&self, terms: &Terms) {
        let MqttSettings { host, protocol, tls, .. } = &*self.settings;
        let (port, by_tls) = (self.settings.port(), if tls.is_some() { " by TLS" } else { "" });
        log::info!("session with {host}:{port}{by_tls}, MQTT {protocol}, as client {:?}", self.client_id);
        log::debug!("the broker's terms: {terms:?}");
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

fn live(plan: &Plan, inbox: &Arc<Inbox>, link: Link) {
    // the codecs are not ours, and what they hold of this session is thrown away with it
    let ended = catch_unwind(AssertUnwindSafe(|| session(plan, inbox, &link)));
    inbox.close();
    match ended {
        Ok(Ended::Asked(farewell)) => {
            // as much of it as goes without waiting: the process may end once the link is dropped
            let leaving = farewell.and_then(|(wire, until)| Some((begin_good_bye(wire)?, until)));
            drop(link); // by now everything is settled or dropped, and the forwarder need not wait for good manners
            if let Some((wire, until)) = leaving {
                end_good_bye(wire, inbox, until);
            }
        }
        Ok(Ended::Down(why)) => link.down(why),
        Err(said) => link.down(failure::panicked(said)),
    }
}

enum Ended<'a> {
    /// The forwarder wanted it so; there may be somebody to say good-bye to, and time until then.
    Asked(Option<(Wire<'a>, Instant)>),
    Down(Down),
}

/// Why a session did not come to stand.
enum Unbegun {
    /// The forwarder did not want it any more.
    Asked,
    Down(Down),
}

impl From<Down> for Unbegun {
    fn from(why: Down) -> Self {
        Unbegun::Down(why)
    }
}

fn session<'a>(plan: &Plan, inbox: &'a Arc<Inbox>, link: &Link) -> Ended<'a> {
    match begin(plan, inbox) {
        Err(Unbegun::Asked) => Ended::Asked(None),
        Err(Unbegun::Down(why)) => Ended::Down(why),
        Ok((wire, terms, keep_alive)) => {
            plan.tell(&terms);
            link.up(Limits { window: usize::from(terms.window), bytes: usize::MAX });
            let flight = Flight::new(terms.window, terms.protocol);
            let (queue, until) = (VecDeque::new(), None);
            Session { plan, wire, inbox, link, terms, flight, keep_alive, queue, until }.live()
        }
    }
}

/// From nothing to a session that stands.
fn begin<'a>(plan: &Plan, inbox: &'a Arc<Inbox>) -> Result<(Wire<'a>, Terms, KeepAlive), Unbegun> {
    let settings = &*plan.settings;
    let until = Instant::now() + settings.connect_timeout;
    let credentials = settings.credentials().map_err(failure::refused)?;
    let stream = connection(plan, inbox, until)?;
    // not before there is somebody to speak with: reading the system's authorities costs more than all the rest
    let transport = Transport::over(stream, Security::prepare(settings)?)?;
    let mut wire = Wire::new(settings.protocol, transport, inbox);
    let hello = Hello {
        client_id: &plan.client_id,
        keep_alive: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
        user: credentials.user.as_deref(),
        password: credentials.password.as_deref(),
        last_will: settings.last_will.as_ref(),
    };
    encode::connect(settings.protocol, &hello, &mut wire.out).map_err(too_large)?;
    let connack = match connack(&mut wire, inbox, until, settings) {
        Err(Unbegun::Asked) => {
            begin_good_bye(wire); // the broker may have let us in by now, and would speak the last will
            return Err(Unbegun::Asked);
        }
        connack => connack?,
    };
    if connack.code != 0 {
        return Err(failure::connack(&connack, settings.protocol).into());
    }
    if connack.is_v311 && settings.protocol == Protocol::V5 {
        // it would take the properties of MQTT 5 for the beginning of the payload
        return Err(failure::refused("the broker answers as MQTT 3.1.1 does: set protocol to 3.1.1").into());
    }
    if connack.session_present {
        // what it remembers of packet ids could make it drop a message as a repetition, and acknowledge it
        return Err(
            failure::refused("the broker claims to remember a session, though a clean one was asked for").into()
        );
    }
    let said = connack.properties.as_ref();
    let terms = Terms::new(settings.protocol, settings.window, said);
    if terms.window == 0 {
        return Err(failure::malformed("it allows no message in flight").into());
    }
    let theirs = said.and_then(|said| said.server_keep_alive);
    Ok((wire, terms, KeepAlive::new(settings.keep_alive, theirs, Instant::now())))
}

fn connection(plan: &Plan, inbox: &Arc<Inbox>, until: Instant) -> Result<TcpStream, Unbegun> {
    let (host, port) = (&plan.settings.host, plan.settings.port());
    plan.dialer.dial(plan.settings.bare_host().to_owned(), port, until, inbox).map_err(failure::no_thread)?;
    loop {
        let (word, connection) = inbox.take_connection();
        if word.until.is_some() {
            return Err(Unbegun::Asked);
        }
        if let Some(connection) = connection {
            return Ok(connection.map_err(|error| failure::no_connection(host, port, error))?);
        }
        if until <= Instant::now() {
            return Err(failure::no_answer(plan.settings.connect_timeout).into());
        }
        wire::wait_for(inbox, until).map_err(failure::broken)?;
    }
}

fn connack(wire: &mut Wire<'_>, inbox: &Inbox, until: Instant, settings: &MqttSettings) -> Result<Connack, Unbegun> {
    loop {
        let pushed = wire.push();
        if pushed.is_ok() {
            wire.wait(Some(until))?;
        }
        let pulled = wire.pull();
        match wire.next()? {
            Some(Packet::Connack(connack)) => return Ok(connack),
            Some(Packet::Disconnect { code, said }) => return Err(failure::disconnect(code, said.as_deref()).into()),
            Some(_) => return Err(failure::malformed("it answered CONNECT with something else than CONNACK").into()),
            None => {}
        }
        pulled.and(pushed).map_err(|why| if settings.tls.is_some() { why } else { failure::unanswered(why) })?;
        // nothing is sent before `up`, so what is taken here can only be the word
        if inbox.take(&mut VecDeque::new()).until.is_some() {
            return Err(Unbegun::Asked);
        }
        if until <= Instant::now() {
            return Err(failure::no_answer(settings.connect_timeout).into());
        }
    }
}

/// A session that stands.
struct Session<'a, 'l> {
    plan: &'l Plan,
    wire: Wire<'a>,
    inbox: &'a Inbox,
    link: &'l Link,
    terms: Terms,
    flight: Flight,
    keep_alive: KeepAlive,
    /// Taken from the inbox, not yet encoded.
    queue: VecDeque<Delivery>,
    /// By when everything must be settled or dropped, once the forwarder has said so.
    until: Option<Instant>,
}

impl<'a> Session<'a, '_> {
    fn live(mut self) -> Ended<'a> {
        match self.converse() {
            // with what is unanswered its receipts are dropped, before anybody hears of the end
            Ok(patience) => Ended::Asked(Some((self.wire, Instant::now() + patience))),
            Err(Down::Recycled) => {
                begin_good_bye(self.wire); // nobody is to blame: no reason for the last will
                Ended::Down(Down::Recycled)
            }
            Err(why) => Ended::Down(why),
        }
    }

    /// Sends and settles until the end; answers with the time there is to say good-bye.
    fn converse(&mut self) -> Result<Duration, Down> {
        self.hear()?; // what came in one piece with CONNACK
        loop {
            if let Err(why) = self.hand_over() {
                // what the broker had said by then counts, and it may have said why
                let pulled = self.wire.pull_all();
                self.hear()?;
                return pulled.and(Err(why));
            }
            self.flight.flushed(self.wire.flushed());
            self.keep_alive.flushed(self.wire.flushed(), Instant::now());
            if self.until.is_some() && self.queue.is_empty() && self.flight.is_idle() {
                return Ok(FAREWELL);
            }
            let (ping_at, overdue) = (self.keep_alive.due(), self.keep_alive.overdue(self.flight.answered()));
            let wake_at = self.until.into_iter().chain(overdue).fold(ping_at, Instant::min);
            let ready = self.wire.wait(Some(wake_at))?;
            if ready.inbox {
                let word = self.inbox.take(&mut self.queue);
                if word.is_stop_now() {
                    return Ok(Duration::ZERO);
                }
                self.heed(word)?;
            }
            if ready.readable {
                let pulled = self.wire.pull();
                self.hear()?;
                pulled?;
            }
            let now = Instant::now();
            if self.until.is_some_and(|until| until <= now) {
                return Ok(FAREWELL);
            }
            if self.keep_alive.overdue(self.flight.answered()).is_some_and(|overdue| overdue <= now) {
                return Err(failure::no_pong());
            }
            if self.keep_alive.due() <= now {
                self.ping(now)?;
            }
        }
    }

    fn heed(&mut self, word: Word) -> Result<(), Down> {
        self.until = word.until;
        if word.ping { self.ping(Instant::now()) } else { Ok(()) }
    }

    fn ping(&mut self, now: Instant) -> Result<(), Down> {
        if self.keep_alive.is_asking() {
            self.keep_alive.sent(now); // the socket takes nothing; looked at again after as long
            return Ok(());
        }
        encode::pingreq(&mut self.wire.out).map_err(too_large)?;
        self.keep_alive.asked(now, self.wire.encoded());
        Ok(())
    }

    /// Encodes and sends what there is room for, in order: many messages to a write, and many writes to a wait.
    fn hand_over(&mut self) -> Result<(), Down> {
        loop {
            let mut more = false;
            while let Some(delivery) = self.queue.front() {
                let Some(packet_id) = self.flight.next_id(delivery.message.qos) else { break };
                if self.wire.out.len() >= AHEAD {
                    more = true;
                    break;
                }
                let Some(delivery) = self.queue.pop_front() else { break };
                self.encode(delivery, packet_id);
            }
            if self.wire.out.is_empty() && self.wire.is_flushed() {
                return Ok(());
            }
            let before = self.wire.taken();
            self.wire.push()?;
            if self.wire.taken() > before {
                self.keep_alive.sent(Instant::now());
            }
            if !more || !self.wire.out.is_empty() {
                return Ok(());
            }
        }
    }

    fn encode(&mut self, delivery: Delivery, packet_id: u16) {
        let Delivery { id, possible_duplicate, message, receipt } = delivery;
        let name = id.to_string();
        if let Err(refusal) = self.terms.admit(&name, possible_duplicate, &message) {
            return receipt.withhold(refusal);
        }
        if self.terms.leaves_something_out(&message) && !self.plan.warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{id} has headers, or a content type, response topic or correlation data: MQTT 3.1.1 carries none of \
                 them, and it is sent without; later ones too"
            );
        }
        let (qos, before) = (message.qos, self.wire.out.len());
        let encoded =
            encode::publish(self.terms.protocol, packet_id, name, possible_duplicate, message, &mut self.wire.out);
        if encoded.is_err() {
            // admitted, and yet the codec will not: nothing half written may stay
            self.wire.out.truncate(before);
            return receipt.withhold(Refusal::new(Verdict::Never, "the MQTT codec cannot encode it"));
        }
        self.flight.launch(receipt, qos, self.wire.encoded());
    }

    /// Hears everything that has come.
    fn hear(&mut self) -> Result<(), Down> {
        while let Some(packet) = self.wire.next()? {
            self.keep_alive.heard(Instant::now());
            match packet {
                Packet::Answer(answer) => self.settle(&answer)?,
                Packet::Pingresp if self.keep_alive.ponged() => self.link.alive(),
                Packet::Pingresp => {} // nobody asked
                Packet::Disconnect { code, said } => return Err(failure::disconnect(code, said.as_deref())),
                Packet::Connack(_) => return Err(failure::malformed("a second CONNACK")),
                Packet::Other => {}
            }
        }
        Ok(())
    }

    fn settle(&mut self, answer: &Answer) -> Result<(), Down> {
        let (step, id, taken) = (answer.step, answer.id, self.wire.taken());
        let out_of_step = |_| failure::out_of_step(step, id);
        let meaning = reason::of(answer);
        if step == Step::Pubrec && meaning == Meaning::Accepted {
            self.flight.received(id, taken).map_err(out_of_step)?;
            return encode::pubrel(id, &mut self.wire.out).map_err(too_large);
        }
        let receipt = self.flight.finish(id, step, taken).map_err(out_of_step)?;
        match meaning {
            Meaning::Accepted => receipt.acknowledge(),
            Meaning::Refused(refusal) => receipt.reject(refusal),
            Meaning::InUse => return Err(Down::Recycled),
        }
        Ok(())
    }
}

fn too_large(_: TooLarge) -> Down {
    failure::refused("the settings do not fit into an MQTT packet")
}

/// Sends DISCONNECT, and says that nothing will follow: as far as that goes without waiting. Without it the broker would
/// speak the last will. Gives the connection back if there is anything to wait for.
fn begin_good_bye(mut wire: Wire<'_>) -> Option<Wire<'_>> {
    encode::disconnect(&mut wire.out).ok()?;
    wire.push().ok()?;
    if wire.is_flushed() {
        wire.finish().ok()?;
    }
    Some(wire)
}

/// Waits until DISCONNECT has left and the broker has closed the connection, or there is no time for it. Closed with
/// answers unread the connection would be reset, and DISCONNECT lost on its way.
fn end_good_bye(mut wire: Wire<'_>, inbox: &Inbox, until: Instant) {
    let mut finished = wire.is_flushed();
    loop {
        let over = inbox.take(&mut VecDeque::new()).is_stop_now() || until <= Instant::now();
        if over || wire.wait(Some(until)).is_err() || wire.pull().is_err() || wire.push().is_err() {
            return;
        }
        if wire.is_flushed() && !finished {
            finished = wire.finish().is_ok();
        }
    }
}
