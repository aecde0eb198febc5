//! The bytes of a connection by TLS. Nothing here waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use bytes::{Buf, BytesMut};
use rustls::ClientConnection;

use super::Trust;
use crate::broker::Down;
use crate::broker::mqtt::failure;

/// A connection and the TLS on it. The handshake goes by with the first writes and reads.
pub(in crate::broker::mqtt) struct TlsStream {
    pub stream: TcpStream,
    connection: ClientConnection,
    trust: Trust,
    /// MQTT has come: until then an end of the connection is TLS's to explain.
    heard: bool,
}

impl TlsStream {
    pub fn over(stream: TcpStream, trust: Trust) -> Result<Self, Down> {
        let connection = trust.connection()?;
        Ok(TlsStream { stream, connection, trust, heard: false })
    }

    /// Takes as much from the front of `out` as goes.
    pub fn write(&mut self, out: &mut BytesMut) -> Result<(), Down> {
        loop {
            let taken = self.connection.writer().write(out).map_err(failure::broken)?;
            out.advance(taken);
            if !self.write_records().map_err(|error| self.lost(Some(error)))? || taken == 0 {
                return Ok(());
            }
        }
    }

    /// Sends what rustls has for the broker; false if not all of it goes.
    fn write_records(&mut self) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Quietly(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether all that was taken from `out` is with the kernel.
    pub fn is_flushed(&self) -> bool {
        !self.connection.wants_write()
    }

    /// Whether room in the socket is of use. During the handshake it is not for `more` of MQTT, which has to wait.
    pub fn wants_to_write(&self, more: bool) -> bool {
        self.connection.wants_write() || more && !self.connection.is_handshaking()
    }

    /// Puts what has come behind `incoming`.
    pub fn read(&mut self, incoming: &mut BytesMut) -> Result<(), Down> {
        match self.connection.read_tls(&mut self.stream) {
            Ok(0) => return Err(self.lost(None)),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(error) => return Err(self.lost(Some(error))),
        }
        if let Err(error) = self.connection.process_new_packets() {
            let _ = self.write_records(); // so that the broker's log says it too
            return Err(self.trust.failed(&self.connection, error));
        }
        let mut chunk = [0; 4096];
        loop {
            match self.connection.reader().read(&mut chunk) {
                Ok(0) => return Err(self.lost(None)),
                Ok(count) => {
                    self.heard = true;
                    incoming.extend_from_slice(&chunk[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.lost(Some(error))),
            }
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> io::Result<()> {
        self.connection.send_close_notify();
        self.write_records()?;
        self.stream.shutdown(Shutdown::Write)
    }

    fn lost(&self, error: Option<io::Error>) -> Down {
        match error {
            error if !self.heard => self.trust.closed(&self.connection, error),
            Some(error) => failure::broken(error),
            None => failure::closed(),
        }
    }
}

/// Writes to a socket without SIGPIPE, which a program with a `main` of its own may have at its default: `writev`, which
/// rustls would use, has no way to say so, and `send` has.
struct Quietly<'a>(&'a TcpStream);

impl Write for Quietly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
