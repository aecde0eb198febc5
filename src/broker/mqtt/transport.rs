//! The bytes of a connection, in the clear or by TLS. Nothing here waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Buf, BytesMut};

use super::{MqttSettings, failure};
use crate::broker::Down;

/// Most bytes that are read at once: what comes are answers, and those of a full window fit in.
const CHUNK: usize = 16 * 1024;

pub(super) enum Transport {
    Plain(TcpStream),
}

impl Transport {
    /// Over a connection that stands.
    pub fn over(stream: TcpStream, settings: &MqttSettings) -> Result<Self, Down> {
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).map_err(failure::broken)?;
        if settings.tls.is_some() {
            return Err(failure::refused("this build of edge-outbox is without the feature `tls`"));
        }
        Ok(Transport::Plain(stream))
    }

    /// Takes as much from the front of `out` as goes.
    pub fn write(&mut self, out: &mut BytesMut) -> Result<(), Down> {
        match self {
            Transport::Plain(stream) => {
                while !out.is_empty() {
                    match stream.write(out) {
                        Ok(0) => return Err(failure::closed()),
                        Ok(written) => out.advance(written),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(failure::broken(error)),
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether all that was taken from `out` is with the kernel.
    pub fn is_flushed(&self) -> bool {
        match self {
            Transport::Plain(_) => true,
        }
    }

    /// Puts what has come behind `incoming`.
    pub fn read(&mut self, incoming: &mut BytesMut) -> Result<(), Down> {
        match self {
            Transport::Plain(stream) => {
                let mut chunk = [0; CHUNK];
                match stream.read(&mut chunk) {
                    Ok(0) => Err(failure::closed()),
                    Ok(count) => {
                        incoming.extend_from_slice(&chunk[..count]);
                        Ok(())
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
                    Err(error) => Err(failure::broken(error)),
                }
            }
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Transport::Plain(stream) => stream.as_fd(),
        }
    }
}
