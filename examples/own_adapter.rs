//! An adapter of one's own: each message is a line of JSON over TCP, the payload as text, and the peer answers each, in
//! order, with a line that says `ok` or why not. Run it: `cargo run --example own_adapter`.
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError::*, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{collections::VecDeque, thread, time::Duration, time::Instant};

use edge_outbox::broker::{Broker, Delivery, Down, Limits, Link, Receipt, Refusal, Verdict};
use edge_outbox::{Error, Message, Outbox};

/// What may be unanswered. Both channels hold as many, so within the limits there is room.
const LIMITS: Limits = Limits { window: 64, bytes: usize::MAX };
struct Lines(SocketAddr, Option<(SyncSender<Delivery>, Arc<Session>)>);
impl Broker for Lines {
    fn connect(&mut self, link: Link) {
        let (to_writer, deliveries) = sync_channel(LIMITS.window);
        let (peer, session) = (self.0, Arc::new(Session(Mutex::new(Some(link)), OnceLock::new())));
        self.1 = Some((to_writer, Arc::clone(&session)));
        thread::spawn(move || write(peer, &session, &deliveries).unwrap_or_else(|why| session.end(why)));
    }
    fn send(&mut self, queue: &mut VecDeque<Delivery>) {
        let Some((to_writer, _)) = &self.1 else { return };
        while let Some(delivery) = queue.pop_front() {
            let Err(Full(back) | Disconnected(back)) = to_writer.try_send(delivery) else { continue };
            return queue.push_front(back);
        }
    }
    fn disconnect(&mut self, until: Instant) {
        // Its channel closed, the writer sends what it has and tells the peer that this was all.
        let Some((_, session)) = self.1.take() else { return };
        thread::spawn(move || {
            thread::sleep(until.saturating_duration_since(Instant::now()));
            session.end(ErrorKind::TimedOut.into());
        });
    }
}

/// What goes when a session ends; its threads then drop their receipts, which says "not delivered".
struct Session(Mutex<Option<Link>>, OnceLock<TcpStream>);
impl Session {
    fn end(&self, why: io::Error) {
        let link = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        link.inspect(|link| link.down(Down::Unreachable(why.into())));
        self.1.get().map(|stream| stream.shutdown(Shutdown::Both));
    }
    fn read(&self, stream: TcpStream, unanswered: &Receiver<Receipt>) {
        for (answer, receipt) in BufReader::new(stream).lines().map_while(Result::ok).zip(unanswered) {
            if answer == "ok" { receipt.acknowledge() } else { receipt.reject(Refusal::new(Verdict::Later, answer)) }
        }
        self.end(ErrorKind::ConnectionReset.into());
    }
}

fn write(peer: SocketAddr, session: &Arc<Session>, deliveries: &Receiver<Delivery>) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&peer, Duration::from_secs(5))?;
    let (answers, reader) = (stream.try_clone()?, Arc::clone(session));
    let _ = session.1.set(stream.try_clone()?);
    let (to_reader, unanswered) = sync_channel(LIMITS.window);
    session.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().ok_or(ErrorKind::TimedOut)?.up(LIMITS);
    thread::spawn(move || reader.read(answers, &unanswered));
    for Delivery { id, message, receipt, .. } in deliveries {
        let line = (id.to_string(), message.topic, String::from_utf8_lossy(message.payload.as_bytes()));
        to_reader.send(receipt).map_err(io::Error::other)?;
        writeln!(stream, "{}", serde_json::to_string(&line)?)?;
    }
    stream.shutdown(Shutdown::Write)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (folder, listener) = (tempfile::tempdir()?, TcpListener::bind("127.0.0.1:0")?);
    let outbox = Outbox::open(folder.path().join("own.db"), Lines(listener.local_addr()?, None))?;
    outbox.transaction(|tx| -> Result<_, Error> { outbox.enqueue(tx, &Message::text("weather/roof", "21.5")) })?;
    let (mut peer, mut line) = (listener.accept()?.0, String::new());
    BufReader::new(&peer).read_line(&mut line)?;
    print!("the peer has {line}");
    writeln!(peer, "ok")?;
    outbox.flush(Duration::from_secs(5))?;
    Ok(outbox.shutdown(Duration::from_secs(5))?)
}
