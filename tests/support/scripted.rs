//! A broker that misbehaves by script: as much of MQTT 5 and 3.1.1 as a publisher meets, over real sockets.
//!
//! It shares no code with the adapter. What it took, answered and cut stands in its [`Record`].

#![allow(dead_code, reason = "each user includes this file and takes what it needs")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Far beyond what any of this takes, the slowest machine included.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a connection looks whether the test is over.
const TICK: Duration = Duration::from_millis(50);
/// How long a client may take to close behind a broker that closed.
const GOOD_MANNERS: Duration = Duration::from_secs(1);

/// How the broker behaves. [`Script::default`] is a broker as it should be.
pub struct Script {
    /// What becomes of a message that arrived.
    pub judge: Box<dyn FnMut(&Published) -> Reaction + Send>,
    /// How long each session lives, whatever is sent in it, and how it ends then.
    pub life: Box<dyn FnMut() -> Option<(Duration, Manner)> + Send>,
    /// How long an answer is on its way.
    pub latency: Duration,
    /// Bytes per second that get through to the broker.
    pub rate: Option<usize>,
    /// The maximum QoS that CONNACK announces, which MQTT 3.1.1 cannot.
    pub maximum_qos: Option<u8>,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            judge: Box::new(|_| Reaction::Take),
            life: Box::new(|| None),
            latency: Duration::ZERO,
            rate: None,
            maximum_qos: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It is acknowledged.
    Take,
    /// It gets no answer, and the session ends.
    Cut(Cut),
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// It comes once so many younger messages were acknowledged,
    pub younger: usize,
    /// or after this long, whichever is earlier.
    pub within: Duration,
    pub manner: Manner,
}

impl Cut {
    pub fn at_once(manner: Manner) -> Self {
        Cut { younger: 0, within: Duration::ZERO, manner }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// What came before is answered first.
    Polite,
    /// The answers that were on their way are lost.
    Mute,
    /// They are lost, and TCP says RST, which costs the client what it had not yet read.
    Reset,
    /// Nobody says a word any more, and what the client sends goes nowhere.
    Silent,
}

/// A message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Counted from 1.
    pub session: usize,
    pub topic: String,
    pub qos: u8,
    /// The first word of the payload.
    pub name: String,
}

/// What a broker saw and did.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Sessions that began.
    pub sessions: usize,
    /// Sessions that the broker ended.
    pub cuts: usize,
    pub pings: usize,
    /// Every message that arrived, in that order.
    pub published: Vec<Published>,
    /// The names of the messages whose last acknowledgement was written to the socket, in that order.
    pub acknowledged: Vec<String>,
}

impl Record {
    /// Where in the sequence of arrivals the message of this name stands first.
    #[track_caller]
    pub fn first(&self, name: &str) -> usize {
        self.published.iter().position(|published| published.name == name).expect("it arrived")
    }

    /// Where the last one of that topic stands.
    #[track_caller]
    pub fn last(&self, topic: &str) -> usize {
        self.published.iter().rposition(|published| published.topic == topic).expect("one arrived")
    }
}

/// The broker, until it is dropped.
pub struct Scripted {
    port: u16,
    world: Arc<World>,
    thread: Option<JoinHandle<()>>,
}

struct World {
    script: Mutex<Script>,
    record: Mutex<Record>,
    news: Condvar,
    over: AtomicBool,
}

impl World {
    fn note<T>(&self, what: impl FnOnce(&mut Record) -> T) -> T {
        let result = what(&mut self.record.lock().unwrap());
        self.news.notify_all();
        result
    }
}

impl Scripted {
    pub fn start(script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (script, record) = (Mutex::new(script), Mutex::default());
        let world = Arc::new(World { script, record, news: Condvar::new(), over: AtomicBool::new(false) });
        let accepting = Arc::clone(&world);
        let thread = thread::spawn(move || {
            thread::scope(|scope| {
                while let Ok((stream, _)) = listener.accept() {
                    if accepting.over.load(Ordering::Relaxed) {
                        break;
                    }
                    scope.spawn(|| Connection::new(stream, &accepting).live());
                }
            });
        });
        Scripted { port, world, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the script, for what comes from now on; the latency and the rate of a session stay as they are.
    pub fn rewrite(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.world.script.lock().unwrap());
    }

    pub fn record(&self) -> Record {
        self.world.record.lock().unwrap().clone()
    }

    /// What it saw since this was asked last, and what was written of it is forgotten: for those who go on for hours.
    pub fn take(&self) -> Record {
        mem::take(&mut self.world.record.lock().unwrap())
    }

    /// Waits until something holds of the record.
    #[track_caller]
    pub fn wait_for(&self, what: &str, holds: impl Fn(&Record) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut record = self.world.record.lock().unwrap();
        while !holds(&record) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let Record { sessions, cuts, pings, published, acknowledged } = record.clone();
                let (arrived, answered) = (published.len(), acknowledged.len());
                drop(record);
                panic!(
                    "not within {PATIENCE:?}: {what}; {sessions} sessions, {cuts} cut, {pings} pings, \
                     {arrived} messages arrived, {answered} answered"
                );
            }
            record = self.world.news.wait_timeout(record, left).unwrap().0;
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.world.over.store(true, Ordering::Relaxed);
        let woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            if thread.join().is_err() && !thread::panicking() {
                panic!("the broker's script panicked");
            }
        }
    }
}

/// An answer on its way.
struct Answer {
    due: Instant,
    bytes: Vec<u8>,
    /// The message that is settled by it.
    settles: Option<String>,
}

/// What ends the session, and when.
struct Doom {
    at: Instant,
    /// Or after so many more acknowledgements.
    younger: Option<usize>,
    manner: Manner,
}

struct Connection<'w> {
    stream: TcpStream,
    world: &'w World,
    session: usize,
    /// The protocol level of CONNECT: 5 or 4.
    level: u8,
    latency: Duration,
    rate: Option<usize>,
    /// Read and not yet a whole packet.
    input: Vec<u8>,
    /// When the line has room for the next bytes.
    line_free: Instant,
    answers: VecDeque<Answer>,
    /// QoS 2 between PUBREC and PUBREL.
    received: BTreeMap<u16, String>,
    doom: Vec<Doom>,
}

/// The client has gone.
struct Gone;

impl<'w> Connection<'w> {
    fn new(stream: TcpStream, world: &'w World) -> Self {
        stream.set_nodelay(true).unwrap();
        let script = world.script.lock().unwrap();
        let (latency, rate) = (script.latency, script.rate);
        drop(script);
        Connection {
            stream,
            world,
            session: 0,
            level: 0,
            latency,
            rate,
            input: Vec::new(),
            line_free: Instant::now(),
            answers: VecDeque::new(),
            received: BTreeMap::new(),
            doom: Vec::new(),
        }
    }

    fn live(mut self) {
        while !self.world.over.load(Ordering::Relaxed) {
            if self.deliver(Instant::now()).is_err() {
                return;
            }
            if let Some(manner) = self.doomed() {
                return self.end(manner);
            }
            if self.listen(Instant::now()).is_err() {
                return;
            }
        }
    }

    /// How the session ends, if its time has come.
    fn doomed(&self) -> Option<Manner> {
        let now = Instant::now();
        self.doom.iter().find(|doom| doom.at <= now || doom.younger == Some(0)).map(|doom| doom.manner)
    }

    /// Sends the answers that have arrived by now.
    fn deliver(&mut self, now: Instant) -> Result<(), Gone> {
        while self.answers.front().is_some_and(|answer| answer.due <= now) {
            let Some(Answer { bytes, settles, .. }) = self.answers.pop_front() else { break };
            let settles_one = settles.is_some();
            // in one go: whoever looks because the client heard of it finds it in the record
            self.world.note(|record| {
                self.stream.write_all(&bytes).map_err(|_| Gone)?;
                record.acknowledged.extend(settles);
                Ok(())
            })?;
            if settles_one {
                let younger = self.doom.iter_mut().filter_map(|doom| doom.younger.as_mut());
                let mut spent = false;
                younger.for_each(|left| {
                    *left = left.saturating_sub(1);
                    spent |= *left == 0;
                });
                if spent {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Waits for bytes until the next thing is due, and takes the packets in them.
    fn listen(&mut self, now: Instant) -> Result<(), Gone> {
        let dues = self.doom.iter().map(|doom| doom.at).chain(self.answers.front().map(|answer| answer.due));
        let next = dues.fold(now + TICK, Instant::min);
        let wait = next.saturating_duration_since(now).max(Duration::from_millis(1));
        if self.line_free > now {
            thread::sleep(wait.min(self.line_free - now));
            return Ok(());
        }
        // on a slow line a little at a time
        let most = self.rate.map_or(64 * 1024, |rate| (rate / 100).max(1));
        let mut bytes = vec![0; most];
        self.stream.set_read_timeout(Some(wait)).map_err(|_| Gone)?;
        let count = match self.stream.read(&mut bytes) {
            Ok(0) => return Err(Gone),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(()),
            Err(_) => return Err(Gone),
        };
        if let Some(rate) = self.rate {
            self.line_free = Instant::now() + Duration::from_secs_f64(count as f64 / rate as f64);
        }
        self.input.extend_from_slice(&bytes[..count]);
        while self.doomed().is_none() {
            let Some((header, body)) = take_packet(&mut self.input) else { break };
            self.hear(header, &body)?;
        }
        Ok(())
    }

    fn answer(&mut self, bytes: Vec<u8>, settles: Option<String>) {
        self.answers.push_back(Answer { due: Instant::now() + self.latency, bytes, settles });
    }

    fn hear(&mut self, header: u8, body: &[u8]) -> Result<(), Gone> {
        match header >> 4 {
            1 => self.connect(body),
            3 => self.publish(header, body),
            6 => {
                let id = u16::from_be_bytes([body[0], body[1]]);
                let name = self.received.remove(&id);
                self.answer(vec![0x70, 2, body[0], body[1]], name);
            }
            12 => {
                self.world.note(|record| record.pings += 1);
                self.answer(vec![0xd0, 0], None);
            }
            14 => return Err(Gone),
            other => panic!("a publisher sends no packet of type {other}"),
        }
        Ok(())
    }

    fn connect(&mut self, body: &[u8]) {
        self.level = body[6];
        let mut script = self.world.script.lock().unwrap();
        if let Some((life, manner)) = (script.life)() {
            self.doom.push(Doom { at: Instant::now() + life, younger: None, manner });
        }
        let connack = match (self.level, script.maximum_qos) {
            (5, Some(qos)) => vec![0x20, 5, 0, 0, 2, 0x24, qos],
            (5, None) => vec![0x20, 3, 0, 0, 0],
            _ => vec![0x20, 2, 0, 0],
        };
        drop(script);
        self.session = self.world.note(|record| {
            record.sessions += 1;
            record.sessions
        });
        self.answer(connack, None);
    }

    fn publish(&mut self, header: u8, body: &[u8]) {
        let qos = header >> 1 & 3;
        let mut rest = body;
        let length = usize::from(take(&mut rest, 2)[0]) * 256 + usize::from(body[1]);
        let topic = String::from_utf8(take(&mut rest, length).to_vec()).unwrap();
        let id = if qos > 0 { take(&mut rest, 2).to_vec() } else { Vec::new() };
        if self.level == 5 {
            let properties = varint(&mut rest).expect("a whole packet");
            take(&mut rest, properties);
        }
        let payload = String::from_utf8_lossy(rest);
        let name = payload.split_whitespace().next().unwrap_or_default().to_owned();
        let published = Published { session: self.session, topic, qos, name: name.clone() };
        let reaction = (self.world.script.lock().unwrap().judge)(&published);
        self.world.note(|record| record.published.push(published));
        match (reaction, qos) {
            (Reaction::Cut(cut), _) => {
                let at = Instant::now() + cut.within;
                self.doom.push(Doom { at, younger: (cut.younger > 0).then_some(cut.younger), manner: cut.manner });
            }
            (Reaction::Take, 0) => self.world.note(|record| record.acknowledged.push(name)),
            (Reaction::Take, 1) => self.answer(vec![0x40, 2, id[0], id[1]], Some(name)),
            (Reaction::Take, _) => {
                self.received.insert(u16::from_be_bytes([id[0], id[1]]), name);
                self.answer(vec![0x50, 2, id[0], id[1]], None);
            }
        }
    }

    /// Reads what comes and forgets it, until the client closes, or the test or the time is over.
    fn swallow(&mut self, until: Option<Instant>) {
        let mut bytes = [0; 4096];
        let _ = self.stream.set_read_timeout(Some(TICK));
        while !self.world.over.load(Ordering::Relaxed) && until.is_none_or(|until| Instant::now() < until) {
            match self.stream.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return,
            }
        }
    }

    fn end(mut self, manner: Manner) {
        if manner == Manner::Polite {
            while let Some(Answer { due, .. }) = self.answers.back() {
                let due = *due;
                self.doom.clear();
                if self.deliver(due).is_err() {
                    break;
                }
            }
        }
        self.world.note(|record| record.cuts += 1);
        if manner == Manner::Reset {
            let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
            return;
        }
        let until = if manner == Manner::Silent {
            None
        } else {
            let _ = self.stream.shutdown(Shutdown::Write);
            Some(Instant::now() + GOOD_MANNERS)
        };
        // closed with something left to read, TCP would say RST
        self.swallow(until);
    }
}

/// The first packet in `input`, if it is whole: its first byte and what stands behind the fixed header.
fn take_packet(input: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let header = *input.first()?;
    let mut rest = &input[1..];
    let length = varint(&mut rest)?;
    let begin = input.len() - rest.len();
    let body = input.get(begin..begin + length)?.to_vec();
    input.drain(..begin + length);
    Some((header, body))
}

fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = *rest.first()?;
        *rest = &rest[1..];
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

fn take<'b>(rest: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken
}
