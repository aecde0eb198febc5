//! Asks the forwarder of a database how it stands.
//!
//! Who answers is not looked at: whoever can put another socket there can put another database there as well.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, connect, recv, socket_with};

use super::report::{Forwarder, Live};
use crate::error::chain;
use crate::forwarder::ForwarderLock;
use crate::live::{Place, decode};

/// For an answer, however often it is asked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that no forwarder's line has.
const LONGEST: usize = 1024 * 1024;

/// Between its lock and its socket a forwarder is not there for long: when it begins, and when it ends.
const BETWEEN: Duration = Duration::from_millis(40);
const TRIES: u32 = 5;

enum Silence {
    /// Nobody listens, or hung up at once.
    Nobody(String),
    Other(String),
}

pub(super) fn forwarder(database: &Path) -> Forwarder {
    let until = Instant::now() + PATIENCE;
    let mut tries = 0;
    loop {
        tries += 1;
        let silence = match ask(database, until) {
            Ok(live) => return Forwarder::Active(live),
            Err(silence) => silence,
        };
        match (ForwarderLock::is_taken(database), silence) {
            (Ok(false), _) => return Forwarder::None,
            (Ok(true), Silence::Nobody(_)) if tries < TRIES => thread::sleep(BETWEEN),
            (Ok(true), Silence::Nobody(why) | Silence::Other(why)) => return Forwarder::Silent(why),
            (Err(error), _) => {
                return Forwarder::Silent(format!("it cannot be told whether there is one: {}", chain(&error)));
            }
        }
    }
}

fn ask(database: &Path, until: Instant) -> Result<Live, Silence> {
    let place = Place::of(database).map_err(|error| Silence::Other(format!("{}: {error}", database.display())))?;
    let path = place.path().display();
    let trouble = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Silence::Nobody(format!(
            "there is no socket {path} to ask it at: it could not make one, as its log says (level info), or somebody \
             deleted it"
        )),
        io::ErrorKind::ConnectionRefused => Silence::Nobody(format!("it does not listen at {path}")),
        io::ErrorKind::PermissionDenied => Silence::Other(format!(
            "this user may not ask it at {path}: whoever may read the database could, where folder and file let them"
        )),
        io::ErrorKind::WouldBlock => Silence::Other(format!(
            "it did not answer at {path} within {PATIENCE:?}: its process may be stopped, or kept from running"
        )),
        _ => Silence::Other(format!("asking it at {path}: {error}")),
    };
    match fs::symlink_metadata(place.path()) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Silence::Other(format!("{path} is no socket: delete it, and restart the forwarder")));
        }
        Ok(_) => {}
        Err(error) => return Err(trouble(error)),
    }
    let line = reach(&place, until).and_then(|socket| read(&socket, until)).map_err(trouble)?;
    match line.strip_suffix(b"\n") {
        Some(line) => decode(line, Instant::now()).map_err(|why| Silence::Other(format!("at {path} {why}"))),
        None if line.is_empty() => Err(Silence::Nobody(format!("it hung up at {path} without an answer"))),
        None => Err(Silence::Other(format!("at {path} its answer has no end"))),
    }
}

/// Where very many ask at once this waits for its turn.
fn reach(place: &Place, until: Instant) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let address = place.address()?;
    loop {
        // None at all would be for ever.
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        set_socket_timeout(&socket, Timeout::Send, Some(left))?;
        match connect(&socket, &address) {
            Err(Errno::INTR) => {}
            reached => return Ok(reached.map(|()| socket)?),
        }
    }
}

/// Until the end of the line, of the answer, or of patience.
fn read(socket: &OwnedFd, until: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut piece = [0; 16 * 1024];
    while line.last() != Some(&b'\n') && line.len() < LONGEST {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(Errno::AGAIN.into()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match recv(socket, &mut piece, RecvFlags::DONTWAIT) {
            Ok((0, _)) => break,
            Ok((read, _)) => line.extend_from_slice(piece.get(..read).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(line)
}
