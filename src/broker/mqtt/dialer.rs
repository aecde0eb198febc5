//! From a host name to a connection.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::inbox::Inbox;

/// Resolves the host and connects to it, in a thread of its own: `getaddrinfo` can hang for minutes, and nothing ends it.
/// At most one such thread at a time, however many sessions give up waiting for it.
#[derive(Clone, Default)]
pub(super) struct Dialer(Arc<Mutex<Dialling>>);

#[derive(Default)]
struct Dialling {
    busy: bool,
    /// Who is told what came of it, and until when that is of use: the youngest session that asked.
    waiting: Option<(Arc<Inbox>, Instant)>,
}

impl Dialer {
    /// Leaves a connection, or why there is none, in `inbox`, by about `until` if the resolver lets it.
    pub fn dial(&self, host: String, port: u16, until: Instant, inbox: &Arc<Inbox>) -> io::Result<()> {
        let mut dialling = self.lock();
        if !dialling.busy {
            let dialer = self.clone();
            thread::Builder::new().name("edge-outbox-dial".to_owned()).spawn(move || {
                let connection = dialer.connect(&host, port);
                let mut dialling = dialer.lock();
                dialling.busy = false;
                if let Some((inbox, _)) = dialling.waiting.take() {
                    drop(dialling);
                    inbox.put_connection(connection);
                }
            })?;
        }
        (dialling.busy, dialling.waiting) = (true, Some((Arc::clone(inbox), until)));
        Ok(())
    }

    /// Tries one address after the other, and gives each its share of the time: a route that swallows IPv6 must not
    /// keep IPv4 from its turn. Resolving can take longer than the session that asked for it has waited; then the time
    /// is that of the session that waits by now.
    fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for (nth, address) in addresses.iter().enumerate() {
            let until = self.lock().waiting.as_ref().map_or_else(Instant::now, |(_, until)| *until);
            let left = until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - nth).unwrap_or(u32::MAX);
            match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn lock(&self) -> MutexGuard<'_, Dialling> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
