//! The bytes of a connection, in the clear or by TLS. Nothing here waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Buf, BytesMut};

#[cfg(feature = "tls")]
use super::tls::{self, TlsStream, Trust};
use super::{MqttSettings, failure};
use crate::broker::Down;

/// Most bytes that are read at once: what comes are answers, and those of a full window fit in.
const CHUNK: usize = 16 * 1024;

pub(super) enum Transport {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

/// What is to be put over a connection, read from the files that the settings name.
pub(super) enum Security {
    None,
    #[cfg(feature = "tls")]
    Tls(Box<Trust>),
}

impl Security {
    pub fn prepare(settings: &MqttSettings) -> Result<Self, Down> {
        match &settings.tls {
            None => Ok(Security::None),
            #[cfg(feature = "tls")]
            Some(tls) => Ok(Security::Tls(Box::new(tls::prepare(tls, settings.bare_host())?))),
            #[cfg(not(feature = "tls"))]
            Some(_) => Err(failure::refused("this build of edge-outbox is without the feature `tls`")),
        }
    }
}

impl Transport {
    /// Over a connection that stands.
    pub fn over(stream: TcpStream, security: Security) -> Result<Self, Down> {
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).map_err(failure::broken)?;
        match security {
            Security::None => Ok(Transport::Plain(stream)),
            #[cfg(feature = "tls")]
            Security::Tls(trust) => Ok(Transport::Tls(Box::new(TlsStream::over(stream, *trust)?))),
        }
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
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.write(out),
        }
    }

    /// Whether all that was taken from `out` is with the kernel.
    pub fn is_flushed(&self) -> bool {
        match self {
            Transport::Plain(_) => true,
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.is_flushed(),
        }
    }

    /// Whether room in the socket is of use; `more`: something is left that [`write`](Self::write) did not take.
    pub fn wants_to_write(&self, more: bool) -> bool {
        match self {
            Transport::Plain(_) => more,
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.wants_to_write(more),
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
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.read(incoming),
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.finish(),
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Transport::Plain(stream) => stream.as_fd(),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => tls.stream.as_fd(),
        }
    }
}
