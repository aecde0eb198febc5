//! Where a broker is to be had some day: a port that refuses connections or answers nobody, and later carries to one.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

/// What is there instead of the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The port is nobody's: connections are refused.
    Refused,
    /// No packet is answered, not even the first.
    Unanswered,
}

/// A port of our own, which nobody else can take meanwhile.
pub struct Door {
    port: u16,
    socket: OwnedFd,
    /// Stand in its queue, which is full by them: for all others the kernel drops what they send.
    fillers: Vec<TcpStream>,
}

impl Door {
    pub fn closed(absence: Absence) -> io::Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let port = SocketAddr::try_from(rustix::net::getsockname(&socket)?).map_err(io::Error::other)?.port();
        let mut fillers = Vec::new();
        if absence == Absence::Unanswered {
            listen(&socket, 0)?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                fillers.push(filler);
            }
        }
        Ok(Door { port, socket, fillers })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on whoever comes is carried to the broker.
    pub fn open(self, broker: u16) -> io::Result<Opened> {
        drop(self.fillers);
        listen(&self.socket, 128)?;
        let listener = TcpListener::from(self.socket);
        let (over, end) = channel();
        let thread = thread::spawn(move || {
            let mut streams = Vec::new();
            for client in listener.incoming() {
                if end.try_recv().is_ok() {
                    break;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect((Ipv4Addr::LOCALHOST, broker))) else {
                    continue;
                };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { continue };
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                streams.extend([client, server]);
            }
            for stream in streams {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Ok(Opened { port: self.port, over, thread: Some(thread) })
    }
}

/// Ends what it carries when it is dropped.
pub struct Opened {
    port: u16,
    over: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = self.over.send(());
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // ends the waiting for the next one
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
