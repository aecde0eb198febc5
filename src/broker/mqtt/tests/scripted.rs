//! A broker that does what a test tells it, byte by byte, and shares no code with rumqttc.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

/// Runs `script` in a thread, with a listener of its own. Dropping it waits for the script, and passes its panic on.
pub struct Scripted {
    pub port: u16,
    thread: Option<JoinHandle<()>>,
}

pub fn broker(script: impl FnOnce(TcpListener) + Send + 'static) -> Scripted {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    Scripted { port, thread: Some(thread::spawn(move || script(listener))) }
}

/// One that answers the first CONNECT with this CONNACK and leaves the rest to `script`.
pub fn session(connack: Vec<u8>, script: impl FnOnce(Peer) + Send + 'static) -> Scripted {
    broker(move |listener| {
        let mut peer = Peer::accept(&listener);
        assert_eq!(peer.read().expect("CONNECT").kind(), CONNECT);
        peer.write(&connack);
        script(peer);
    })
}

impl Scripted {
    /// Waits for the script's end.
    pub fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

pub const CONNECT: u8 = 1;
pub const PUBLISH: u8 = 3;
pub const PUBREL: u8 = 6;
pub const PINGREQ: u8 = 12;
pub const DISCONNECT: u8 = 14;

/// CONNACK with success and these properties.
pub fn connack(properties: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x20, 3 + u8::try_from(properties.len()).unwrap(), 0, 0, properties.len() as u8];
    packet.extend(properties);
    packet
}

pub fn connack_refused(code: u8) -> Vec<u8> {
    vec![0x20, 3, 0, code, 0]
}

pub fn receive_maximum(count: u8) -> [u8; 3] {
    [0x21, 0, count]
}

pub struct Peer {
    pub stream: TcpStream,
}

pub struct Packet {
    header: u8,
    body: Vec<u8>,
}

impl Packet {
    pub fn kind(&self) -> u8 {
        self.header >> 4
    }

    /// Everything behind the fixed header.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub fn qos(&self) -> u8 {
        (self.header >> 1) & 3
    }

    /// The packet id of a PUBLISH above QoS 0, or of a PUBREL.
    pub fn id(&self) -> u16 {
        let at = match self.kind() {
            PUBLISH => 2 + usize::from(self.body[0]) * 256 + usize::from(self.body[1]),
            _ => 0,
        };
        u16::from_be_bytes([self.body[at], self.body[at + 1]])
    }
}

impl Peer {
    pub fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream }
    }

    /// The next packet, or none if the client has closed.
    pub fn read(&mut self) -> Option<Packet> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok()?;
        let header = byte[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            self.stream.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(Packet { header, body })
    }

    /// The next packet, which is a PUBLISH.
    pub fn publish(&mut self) -> Packet {
        let packet = self.read().expect("a packet");
        assert_eq!(packet.kind(), PUBLISH);
        packet
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// PUBACK (4), PUBREC (5) or PUBCOMP (7) with a reason.
    pub fn answer(&mut self, kind: u8, id: u16, reason: u8) {
        let [high, low] = id.to_be_bytes();
        self.write(&[kind << 4, 3, high, low, reason]);
    }

    /// Reads until the client has closed.
    pub fn read_to_end(&mut self) {
        while self.read().is_some() {}
    }
}
