//! Tells other processes how the active forwarder stands: see [`live`].
//!
//! A thread of its own, for the forwarder's may hang on a disk that does not answer. It sleeps until somebody asks, serves
//! one after another, and keeps nothing of them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::net::{accept_with, bind, listen, send, socket_with};

use super::Shared;
use crate::disk::Audience;
use crate::live::{self, Place};

/// Those who may wait to be served; who comes then waits until others are.
const WAITING: i32 = 64;
/// Serializing needs little, and the rest of a stack is never touched.
const STACK: usize = 128 * 1024;
/// For how long one who asked is waited for. A line fits into what the kernel keeps for him: nobody is, as a rule.
const PATIENCE: Duration = Duration::from_millis(100);
/// For how long nobody is served when no connection can be accepted: the process has as many files as it may have.
const REST: Duration = Duration::from_secs(1);

/// Device and inode of the socket's file.
type Identity = (u64, u64);

/// Open for as long as this stands. Only who holds the [`ForwarderLock`](super::ForwarderLock) has one.
pub(super) struct Window {
    place: Place,
    identity: Option<Identity>,
    /// Closed, it tells the thread to end.
    end: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Window {
    /// `None`, and the log says why, where it cannot be: forwarding goes on without.
    pub fn open(database: &Path, shared: &Arc<Shared>) -> Option<Self> {
        let opened = Place::of(database).and_then(|place| Self::at(place, database, shared));
        opened.inspect_err(|why| log::info!("other processes are not told how the forwarder stands: {why}")).ok()
    }

    fn at(place: Place, database: &Path, shared: &Arc<Shared>) -> io::Result<Self> {
        let failed = |what: &str, error: io::Error| {
            io::Error::new(error.kind(), format!("{} cannot be {what}: {error}", place.path().display()))
        };
        remove_leftover(&place).map_err(|error| failed("removed", error))?;
        let audience = Audience::of(database)?;
        let listener = begin(&place, audience).map_err(|error| failed("made", error))?;
        let mut window = Window { place, identity: None, end: None, thread: None };
        window.identity = Some(window.give_to(audience)?);
        listen(&listener, WAITING)?;
        let (end, told) = UnixStream::pair()?;
        let (shared, since) = (shared.clone(), Instant::now());
        let line = move || live::encode(&shared.live(since), Instant::now());
        let thread = thread::Builder::new().name("edge-outbox-status".to_owned()).stack_size(STACK);
        window.thread = Some(thread.spawn(move || serve(&listener, &told, line))?);
        window.end = Some(end);
        Ok(window)
    }

    /// Modes and owners are changed by a file that is open, whatever stands under the name by now: others may write to the
    /// folder, and this may be root.
    fn give_to(&self, audience: Audience) -> io::Result<Identity> {
        let (file, identity) = look_at(&self.place)?;
        let identity = identity.ok_or_else(|| io::Error::other("somebody replaced it"))?;
        audience.given_socket(&Path::new("/proc/self/fd").join(file.as_raw_fd().to_string()));
        Ok(identity)
    }
}

impl Drop for Window {
    /// First the file: nobody new comes then.
    fn drop(&mut self) {
        // Whoever deletes the lock as well has two forwarders: the other one's socket stays.
        let is_ours = look_at(&self.place).is_ok_and(|(_, found)| found.is_some() && found == self.identity);
        if is_ours {
            let _ = remove(&self.place).inspect_err(|why| log::debug!("{} stays: {why}", self.place.path().display()));
        }
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What stands in the place, opened for nothing but that; with its identity if it is a socket.
fn look_at(place: &Place) -> io::Result<(File, Option<Identity>)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(place.folder(), place.name(), flags, Mode::empty())?);
    let found = file.metadata()?;
    let identity = found.file_type().is_socket().then(|| (found.dev(), found.ino()));
    Ok((file, identity))
}

fn remove(place: &Place) -> io::Result<()> {
    Ok(unlinkat(place.folder(), place.name(), AtFlags::empty())?)
}

/// Of a process that was killed: its lock is ours now.
fn remove_leftover(place: &Place) -> io::Result<()> {
    match look_at(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok((_, Some(_))) => remove(place),
        Ok((_, None)) => Err(io::Error::other("it is no socket, and none of our files")),
    }
}

fn begin(place: &Place, audience: Audience) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file is made with the socket's mode, less the umask: never for more people than it is meant for.
    let _ = fchmod(&listener, Mode::from_raw_mode(audience.mode_of_socket()));
    bind(&listener, &place.address()?)?;
    Ok(listener)
}

/// Until the other end of `told` is closed.
fn serve(listener: &OwnedFd, told: &UnixStream, line: impl Fn() -> Vec<u8>) {
    while let Woken::Ready = wait(Some((listener, PollFlags::IN)), told, None) {
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(client) => answer(&client, told, &line()),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => match wait(None, told, Some(REST)) {
                Woken::TooLate | Woken::Ready => {}
                Woken::Told => return,
            },
        }
    }
}

/// To whoever does not read it is not all said.
fn answer(client: &OwnedFd, told: &UnixStream, mut line: &[u8]) {
    let until = Instant::now() + PATIENCE;
    while !line.is_empty() {
        match send(client, line, SendFlags::NOSIGNAL) {
            Ok(taken) => line = line.get(taken..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let left = until.saturating_duration_since(Instant::now());
                match wait(Some((client, PollFlags::OUT)), told, Some(left)) {
                    Woken::Ready => {}
                    Woken::TooLate | Woken::Told => return,
                }
            }
            Err(_) => return,
        }
    }
}

enum Woken {
    Ready,
    TooLate,
    /// To end.
    Told,
}

fn wait(what: Option<(&OwnedFd, PollFlags)>, told: &UnixStream, patience: Option<Duration>) -> Woken {
    let until = patience.map(|patience| Instant::now() + patience);
    let mut polled = vec![PollFd::from_borrowed_fd(told.as_fd(), PollFlags::IN)];
    polled.extend(what.map(|(of, flags)| PollFd::from_borrowed_fd(of.as_fd(), flags)));
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut polled, left.as_ref()) {
            Ok(0) => return Woken::TooLate,
            Ok(_) if polled.first().is_some_and(|told| told.revents().is_empty()) => return Woken::Ready,
            Err(Errno::INTR) => {}
            // Without memory for this there is nobody to serve; the other end says when to end at the latest.
            Ok(_) | Err(_) => return Woken::Told,
        }
    }
}
