//! From a host name to a connection.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
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
        let resolve = move || Ok((host.as_str(), port).to_socket_addrs()?.collect());
        self.dial_by(resolve, TcpStream::connect_timeout, until, inbox)
    }

    fn dial_by(
        &self,
        resolve: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
        connect: impl FnMut(&SocketAddr, Duration) -> io::Result<TcpStream> + Send + 'static,
        until: Instant,
        inbox: &Arc<Inbox>,
    ) -> io::Result<()> {
        let mut dialling = self.lock();
        if !dialling.busy {
            let dialer = self.clone();
            thread::Builder::new().name("edge-outbox-dial".to_owned()).spawn(move || {
                let connection = resolve().and_then(|addresses| dialer.connect(&addresses, connect));
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
    fn connect(
        &self,
        addresses: &[SocketAddr],
        mut connect: impl FnMut(&SocketAddr, Duration) -> io::Result<TcpStream>,
    ) -> io::Result<TcpStream> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for (nth, address) in addresses.iter().enumerate() {
            let until = self.lock().waiting.as_ref().map_or_else(Instant::now, |(_, until)| *until);
            let left = until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - nth).unwrap_or(u32::MAX);
            match connect(address, share.max(Duration::from_millis(1))) {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};

    use super::super::wire;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const ADDRESS: ([u8; 4], u16) = ([192, 0, 2, 1], 1883);

    /// A resolver that hangs until the sender of `hang` is gone.
    fn slow(hang: Receiver<()>) -> impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send {
        move || {
            let _ = hang.recv();
            Ok(vec![ADDRESS.into(), ADDRESS.into()])
        }
    }

    fn nowhere(_: &SocketAddr, _: Duration) -> io::Result<TcpStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn is_told(inbox: &Inbox) -> bool {
        inbox.take_connection().1.is_some()
    }

    fn wait_until_told(inbox: &Inbox) {
        let until = Instant::now() + PATIENCE;
        while !is_told(inbox) {
            assert!(Instant::now() < until, "nobody told it");
            wire::wait_for(inbox, until).unwrap();
        }
    }

    #[test]
    fn a_name_that_resolves_late_is_tried_for_as_long_as_the_youngest_session_waits() {
        let dialer = Dialer::default();
        let (first, second) = (Arc::new(Inbox::new().unwrap()), Arc::new(Inbox::new().unwrap()));
        let (resolved, hang) = mpsc::channel();
        let (tell, shares) = mpsc::channel();
        let connect = move |address: &SocketAddr, share| {
            tell.send(share).unwrap();
            nowhere(address, share)
        };
        dialer.dial_by(slow(hang), connect, Instant::now(), &first).unwrap();
        dialer.dial_by(|| unreachable!("one is at it"), nowhere, Instant::now() + PATIENCE * 10, &second).unwrap();
        drop(resolved);
        wait_until_told(&second);
        let shares: Vec<_> = shares.iter().collect();
        // of 200 s, less what has gone by: a half for the first address, all that is left for the last
        assert!(shares.len() == 2 && shares[0] > PATIENCE * 4 && shares[1] > PATIENCE * 8, "{shares:?}");
        assert!(!is_told(&first), "it has ended, and the connection is not its own");
    }

    #[test]
    fn however_many_sessions_give_up_waiting_one_thread_resolves_at_a_time() {
        let dialer = Dialer::default();
        let inbox = Arc::new(Inbox::new().unwrap());
        for _ in 0..2 {
            let (resolved, hang) = mpsc::channel();
            let (tell, resolving) = mpsc::channel();
            let mut slow = Some(slow(hang));
            for _ in 0..20 {
                let (tell, slow) = (tell.clone(), slow.take());
                let resolve = move || {
                    tell.send(()).unwrap();
                    slow.map_or(Ok(Vec::new()), |slow| slow())
                };
                dialer.dial_by(resolve, nowhere, Instant::now(), &inbox).unwrap();
            }
            drop((tell, resolved));
            // ends when every resolver has run, or was thrown away
            assert_eq!(resolving.iter().count(), 1);
            wait_until_told(&inbox);
        }
    }
}
