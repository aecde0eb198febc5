//! A connection and the packets on it.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::decode::{self, Packet};
use super::failure;
use super::inbox::Inbox;
use super::settings::Protocol;
use super::transport::Transport;
use crate::broker::Down;

/// As much memory as a connection keeps for what it sends, in bytes, and reads at once at its end.
const ROOM: usize = 256 * 1024;

/// What is to be sent, what has come, and the socket between: the only place where a session's thread waits.
pub(super) struct Wire<'a> {
    pub protocol: Protocol,
    transport: Transport,
    inbox: &'a Inbox,
    /// Encoded, not yet taken by the transport.
    pub out: BytesMut,
    incoming: BytesMut,
    /// Bytes that were encoded before what stands in `out`.
    taken: u64,
    /// As many of them are with the kernel for certain.
    flushed: u64,
}

/// What waiting ended for; neither is set when the time was over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    /// There is something in the inbox.
    pub inbox: bool,
    /// There is something to read, or the connection has ended.
    pub readable: bool,
}

impl<'a> Wire<'a> {
    pub fn new(protocol: Protocol, transport: Transport, inbox: &'a Inbox) -> Self {
        let (out, incoming) = (BytesMut::new(), BytesMut::new());
        Wire { protocol, transport, inbox, out, incoming, taken: 0, flushed: 0 }
    }

    /// Where the next packet will begin, in bytes since the connection began.
    pub fn encoded(&self) -> u64 {
        self.taken + self.out.len() as u64
    }

    /// Up to where the broker may have seen what was sent; what TLS holds back counts, some 64 KiB at most.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Up to where the kernel has what was sent.
    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    /// Sends as much as goes.
    pub fn push(&mut self) -> Result<(), Down> {
        let before = self.out.len();
        let pushed = self.transport.write(&mut self.out);
        self.taken += (before - self.out.len()) as u64;
        if self.transport.is_flushed() {
            self.flushed = self.taken;
        }
        if self.out.is_empty() && self.out.capacity() > ROOM {
            self.out = BytesMut::new(); // a large message is gone, and its memory goes too
        }
        pushed
    }

    /// Reads what has come. What came before an error is there to be [taken](Self::next) nevertheless.
    pub fn pull(&mut self) -> Result<(), Down> {
        self.transport.read(&mut self.incoming)
    }

    /// Reads until nothing more has come.
    pub fn pull_all(&mut self) -> Result<(), Down> {
        let mut before = usize::MAX;
        while before != self.incoming.len() && self.incoming.len() < ROOM {
            before = self.incoming.len();
            self.pull()?;
        }
        Ok(())
    }

    /// The next packet that has come whole.
    pub fn next(&mut self) -> Result<Option<Packet>, Down> {
        decode::next(&mut self.incoming, self.protocol).map_err(|malformed| failure::malformed(malformed.0))
    }

    /// Waits for the inbox, for something to read, and for room to send what is to be sent; at most until `until`.
    pub fn wait(&self, until: Option<Instant>) -> Result<Ready, Down> {
        let mut wanted = PollFlags::IN;
        if self.transport.wants_to_write(!self.out.is_empty()) {
            wanted |= PollFlags::OUT;
        }
        let mut fds = [PollFd::new(self.inbox, PollFlags::IN), PollFd::new(&self.transport, wanted)];
        wait(&mut fds, until).map_err(failure::broken)?;
        Ok(Ready {
            inbox: !fds[0].revents().is_empty(),
            readable: fds[1].revents() - PollFlags::OUT != PollFlags::empty(),
        })
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> io::Result<()> {
        self.transport.finish()
    }

    /// Whether nothing is left to be sent.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty() && self.transport.is_flushed()
    }
}

/// Waits for the inbox alone, at most until `until`.
pub(super) fn wait_for(inbox: &Inbox, until: Instant) -> io::Result<()> {
    wait(&mut [PollFd::from_borrowed_fd(inbox.as_fd(), PollFlags::IN)], Some(until))
}

fn wait(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
