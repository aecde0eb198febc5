//! A stretch of network between an MQTT client and its broker that fails as it is told, and remembers what it carried.
//!
//! It speaks MQTT 5 and 3.1.1, whichever a connection's CONNECT announces.
//!
//! It reads whole packets, so that it can single out one message or one acknowledgement. What is published and what
//! was acknowledged can be asked afterwards: that is the truth about a broker, even one that is killed.

#![allow(dead_code, unused_imports, reason = "each user includes this file and takes what it needs")]

mod faults;
mod packet;
mod traffic;

use std::io::Write;
use std::mem;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::faults::{End, Faults, Manners, take_one};
use self::packet::{CONNECT, MQTT_5, PUBLISH, Packet};
pub use self::packet::{PUBACK, PUBCOMP, PUBREC};
pub use self::traffic::{Published, Traffic};

/// Far beyond what any of this takes, the slowest machine included.
const SOON: Duration = Duration::from_secs(60);

/// Listens on 127.0.0.1 and carries to a port there. Dropping it ends every connection and every thread of it.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    broker: u16,
    road: Mutex<Road>,
    changed: Condvar,
}

/// The road as it is now: what is on it, and what it does to whoever travels.
#[derive(Default)]
struct Road {
    link: Link,
    faults: Faults,
    lines: Vec<Line>,
    traffic: Traffic,
    /// On the way to the client.
    parcels: Vec<Parcel>,
    closed: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Link {
    #[default]
    Up,
    /// Connections end, and new ones are not to be had.
    Cut,
    /// Connections stand and carry nothing, and nobody is told.
    Silent,
}

/// One client's connection and the one to the broker that belongs to it.
struct Line {
    number: usize,
    client: TcpStream,
    broker: TcpStream,
    /// What its CONNECT announced.
    level: u8,
    /// It carries nothing any more, and nobody is told.
    stranded: bool,
}

struct Parcel {
    line: usize,
    /// Nothing: the broker has ended the connection.
    bytes: Vec<u8>,
    arrived: Instant,
    ack: Option<Ack>,
}

/// An acknowledgement on its way.
struct Ack {
    kind: u8,
    reason: u8,
    /// Which of [`Traffic::published`] it is about, where that is known.
    of: Option<usize>,
    released: bool,
}

impl Proxy {
    pub fn to(broker: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { broker, road: Mutex::default(), changed: Condvar::new() });
        let (accepting, delivering) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || accepting.accept(&listener)),
            thread::spawn(move || while delivering.deliver_one() {}),
        ];
        Proxy { port, shared, threads }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What was carried so far.
    pub fn traffic(&self) -> Traffic {
        self.look(Traffic::clone)
    }

    /// The same without a copy; nothing is carried meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&Traffic) -> T) -> T {
        look(&self.shared.road().traffic)
    }

    /// Waits until `look` finds in the traffic what it looks for.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, look: impl Fn(&Traffic) -> Option<T>) -> T {
        let found = self.wait_until(Instant::now() + SOON, look);
        found.unwrap_or_else(|| panic!("not within {SOON:?}: {what}; {}", self.look(Traffic::to_string)))
    }

    /// The same for those who can do without; none if it is not there by then.
    pub fn wait_until<T>(&self, until: Instant, look: impl Fn(&Traffic) -> Option<T>) -> Option<T> {
        let mut road = self.shared.road();
        loop {
            let found = look(&road.traffic);
            let left = until.saturating_duration_since(Instant::now());
            if found.is_some() || left.is_zero() {
                return found;
            }
            road = self.shared.wait(road, Some(left));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|road| {
            road.closed = true;
            road.end_all(End::Fin);
        });
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // ends the waiting for the next one
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What becomes of a packet on its way to the broker.
#[derive(PartialEq, Eq)]
enum Fate {
    Forward,
    /// It does not arrive.
    Lose,
    /// It does not arrive, and the connection ends.
    Break,
    /// The same once everything before it is answered.
    AnswerAndBreak,
    /// It arrives, and the connection ends.
    TakeAndBreak,
    /// Half of it arrives, and the connection ends.
    Truncate,
}

impl Shared {
    fn road(&self) -> MutexGuard<'_, Road> {
        // A test that failed while it looked has said so; the others here are to end in peace.
        self.road.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Road)) {
        change(&mut self.road());
        self.changed.notify_all();
    }

    fn wait<'r>(&self, road: MutexGuard<'r, Road>, at_most: Option<Duration>) -> MutexGuard<'r, Road> {
        let at_most = at_most.unwrap_or(SOON);
        self.changed.wait_timeout(road, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut pumps = Vec::new();
        for client in listener.incoming() {
            let link = {
                let road = self.road();
                if road.closed {
                    break;
                }
                road.link
            };
            let Ok(client) = client else { continue };
            if link == Link::Cut {
                self.change(|road| road.traffic.effects += 1);
                continue;
            }
            let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.broker)) else { continue };
            pumps.extend(self.carry(client, broker));
        }
        for pump in pumps {
            let _ = pump.join();
        }
    }

    fn carry(self: &Arc<Self>, client: TcpStream, broker: TcpStream) -> [JoinHandle<()>; 2] {
        for stream in [&client, &broker] {
            stream.set_nodelay(true).unwrap();
        }
        let (from_client, from_broker) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
        let to_broker = broker.try_clone().unwrap();
        let mut number = 0;
        self.change(|road| {
            road.traffic.connections += 1;
            number = road.traffic.connections;
            road.lines.push(Line { number, client, broker, level: MQTT_5, stranded: false });
            if road.link == Link::Cut || road.closed {
                road.end(number, End::Fin); // it came in while the road was being closed
            }
        });
        let (there, back) = (Arc::clone(self), Arc::clone(self));
        [
            thread::spawn(move || there.to_broker(number, from_client, to_broker)),
            thread::spawn(move || back.to_client(number, from_broker)),
        ]
    }

    fn to_broker(&self, line: usize, mut from: TcpStream, mut to: TcpStream) {
        while let Some(packet) = Packet::read(&mut from) {
            let Some(mut road) = self.when_passable(line) else { break };
            let fate = road.travel(line, &packet);
            drop(road);
            self.changed.notify_all();
            self.throttle(packet.bytes().len());
            match fate {
                Fate::Forward if to.write_all(packet.bytes()).is_ok() => {}
                Fate::Lose => {}
                Fate::Forward | Fate::Break => break,
                Fate::TakeAndBreak | Fate::Truncate => {
                    let all = packet.bytes();
                    let _ = to.write_all(if fate == Fate::Truncate { &all[..all.len() / 2] } else { all });
                    break;
                }
                Fate::AnswerAndBreak => {
                    self.when_answered(line);
                    return self.change(|road| road.post_end(line));
                }
            }
        }
        self.change(|road| road.end(line, End::Fin));
    }

    /// Waits as long as so many bytes take.
    fn throttle(&self, bytes: usize) {
        let begun = Instant::now();
        let mut road = self.road();
        while let (Some(rate), false) = (road.faults.rate, road.closed) {
            let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
            let left = takes.saturating_sub(begun.elapsed());
            if left.is_zero() {
                road.traffic.effects += 1;
                return;
            }
            road = self.wait(road, Some(left));
        }
    }

    /// Waits until nothing but its last message is unanswered on the line, or it has ended.
    fn when_answered(&self, line: usize) {
        let mut road = self.road();
        while road.traffic.unanswered(line) > 1 && road.lines.iter().any(|l| l.number == line) {
            road = self.wait(road, None);
        }
    }

    fn to_client(&self, line: usize, mut from: TcpStream) {
        while let Some(packet) = Packet::read(&mut from) {
            self.change(|road| road.post(line, &packet));
        }
        self.change(|road| road.post_end(line));
    }

    /// Waits until the line carries something; none if it has ended.
    fn when_passable(&self, line: usize) -> Option<MutexGuard<'_, Road>> {
        let mut road = self.road();
        let mut waits = false;
        loop {
            let stranded = road.lines.iter().find(|l| l.number == line)?.stranded;
            if road.link != Link::Silent && !stranded {
                return Some(road);
            }
            road.traffic.effects += usize::from(!waits && !stranded);
            waits = true;
            road = self.wait(road, None);
        }
    }

    /// Carries the next parcel to its client; false once the proxy is closed.
    fn deliver_one(&self) -> bool {
        let mut road = self.road();
        loop {
            if road.closed {
                return false;
            }
            let now = Instant::now();
            if let Some((parcel, client)) = road.next_parcel(now) {
                drop(road);
                self.changed.notify_all();
                if parcel.bytes.is_empty() || (&client).write_all(&parcel.bytes).is_err() {
                    self.change(|road| road.end(parcel.line, End::Fin));
                }
                return true;
            }
            let due = road.parcels.iter().map(|parcel| parcel.arrived + road.faults.ack_delay);
            let next = due.filter(|due| *due > now).min().map(|due| due - now);
            road = self.wait(road, next);
        }
    }
}

impl Road {
    /// Writes down a packet that goes to the broker, and decides what becomes of it.
    fn travel(&mut self, line: usize, packet: &Packet) -> Fate {
        let Some(level) = self.level(line, packet) else { return Fate::Break };
        match packet.kind() {
            CONNECT if take_one(&mut self.faults.refuse_connects) => {
                self.traffic.effects += 1;
                let bytes = packet::refusing_connack(level);
                self.parcels.push(Parcel { line, bytes, arrived: Instant::now(), ack: None });
                self.post_end(line);
                return Fate::Lose;
            }
            PUBLISH => {}
            _ => return Fate::Forward,
        }
        let published = packet.publish(line, level);
        let of = self.traffic.publish(published.clone());
        let fate = self.fate(of, &published, level);
        self.traffic.effects += usize::from(fate != Fate::Forward);
        fate
    }

    fn fate(&mut self, of: usize, published: &Published, level: u8) -> Fate {
        match &self.faults.hang_up {
            Some((topic, Manners::AnswerFirst)) if *topic == published.topic => return Fate::AnswerAndBreak,
            Some((topic, Manners::None)) if *topic == published.topic => return Fate::Break,
            _ => {}
        }
        if take_one(&mut self.faults.lose_publishes) {
            return if self.faults.lose_publishes > 0 { Fate::Lose } else { Fate::Break };
        }
        if let Some((topic, reason, times)) = &mut self.faults.refuse {
            if *topic == published.topic && *times > 0 && published.qos > 0 && level >= MQTT_5 {
                *times -= 1;
                let kind = if published.qos == 1 { PUBACK } else { PUBREC };
                let bytes = packet::answer(kind, published.packet_id, *reason);
                let ack = Ack { kind, reason: *reason, of: Some(of), released: true };
                self.traffic.delay(of);
                let line = published.connection;
                self.parcels.push(Parcel { line, bytes, arrived: Instant::now(), ack: Some(ack) });
                return Fate::Lose;
            }
        }
        if take_one(&mut self.faults.shed) {
            self.traffic.delay(of);
            return Fate::Lose;
        }
        if mem::take(&mut self.faults.truncate) {
            return Fate::Truncate;
        }
        if mem::take(&mut self.faults.take_and_break) { Fate::TakeAndBreak } else { Fate::Forward }
    }

    /// Which protocol the line speaks, learned from its CONNECT; none if it has ended.
    fn level(&mut self, line: usize, packet: &Packet) -> Option<u8> {
        let line = self.lines.iter_mut().find(|l| l.number == line)?;
        if packet.kind() == CONNECT {
            line.level = packet.level();
            self.traffic.levels.insert(line.level);
        }
        Some(line.level)
    }

    /// Takes a packet for the client.
    fn post(&mut self, line: usize, packet: &Packet) {
        let ack = packet.is_ack().then(|| {
            let (kind, reason) = (packet.kind(), packet.reason());
            Ack { kind, reason, of: self.traffic.open(line, packet.id()), released: false }
        });
        let Some(ack) = ack else {
            self.parcels.push(Parcel { line, bytes: packet.bytes().to_vec(), arrived: Instant::now(), ack: None });
            return;
        };
        if take_one(&mut self.faults.lose_acks) {
            self.traffic.effects += 1;
            if let Ack { kind: PUBREC, of: Some(of), .. } = ack {
                self.traffic.delay(of);
            }
            return;
        }
        if let Ack { kind, of: Some(of), .. } = ack {
            self.traffic.arrived(of, kind);
        }
        self.post_ack(line, packet.bytes(), ack);
    }

    fn post_ack(&mut self, line: usize, bytes: &[u8], ack: Ack) {
        let Faults { hold_acks, ack_delay, backwards, .. } = self.faults;
        let arrived = Instant::now();
        if mem::take(&mut self.faults.halve_ack) {
            self.traffic.effects += 1;
            self.parcels.push(Parcel { line, bytes: bytes[..bytes.len() / 2].to_vec(), arrived, ack: None });
            return self.post_end(line);
        }
        let doubled = take_one(&mut self.faults.double_acks);
        self.traffic.effects += usize::from(doubled || hold_acks || !ack_delay.is_zero());
        let bytes = if doubled { bytes.repeat(2) } else { bytes.to_vec() };
        // In reverse: before those that wait already, and with the first of them.
        let before = self.parcels.iter().position(|parcel| parcel.line == line && parcel.ack.is_some());
        match before.filter(|_| backwards) {
            Some(at) => {
                self.parcels.insert(at, Parcel { line, bytes, arrived: self.parcels[at].arrived, ack: Some(ack) })
            }
            None => self.parcels.push(Parcel { line, bytes, arrived, ack: Some(ack) }),
        }
    }

    /// The end of a connection travels behind what was said before it.
    fn post_end(&mut self, line: usize) {
        self.parcels.push(Parcel { line, bytes: Vec::new(), arrived: Instant::now(), ack: None });
    }

    /// The first parcel that may go on, and where to.
    fn next_parcel(&mut self, now: Instant) -> Option<(Parcel, TcpStream)> {
        if self.link == Link::Silent {
            return None;
        }
        let Road { faults, lines, parcels, .. } = &*self;
        let ready = |parcel: &Parcel| match &parcel.ack {
            Some(ack) => ack.released || !faults.hold_acks && parcel.arrived + faults.ack_delay <= now,
            None => true,
        };
        let passable = |parcel: &Parcel| lines.iter().any(|line| line.number == parcel.line && !line.stranded);
        let at = parcels.iter().position(|parcel| ready(parcel) && passable(parcel))?;
        let parcel = self.parcels.remove(at);
        // Before it is there: whoever acts on it finds it written down.
        if let Some(Ack { kind, reason, of: Some(of), .. }) = parcel.ack {
            self.traffic.answer(of, kind, reason);
        }
        let line = self.lines.iter().find(|line| line.number == parcel.line)?;
        Some((parcel, line.client.try_clone().ok()?))
    }

    fn end(&mut self, number: usize, end: End) {
        if let Some(at) = self.lines.iter().position(|line| line.number == number) {
            let line = self.lines.swap_remove(at);
            for stream in [&line.client, &line.broker] {
                let _ = match end {
                    End::Fin => stream.shutdown(Shutdown::Both),
                    // RST is said when the last one closes it: whoever reads from it stops now.
                    End::Reset => rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))
                        .map_err(Into::into)
                        .and_then(|()| stream.shutdown(Shutdown::Read)),
                };
            }
        }
        self.parcels.retain(|parcel| parcel.line != number);
        self.traffic.end(number);
    }
}
