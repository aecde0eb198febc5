//! The forwarder's thread: waits until it is the only one, then runs.

use std::any::Any;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::flushes::Flushes;
use super::lock::ForwarderLock;
use super::run::Run;
use super::window::Window;
use super::{Command, Event, Parts};
use crate::Error;
use crate::error::chain;
use crate::status::{LinkState, Role, Storage};

/// How often a forwarder that stands by tries to become the active one.
const TAKE_OVER_EVERY: Duration = Duration::from_secs(1);

/// Starts it. The channel is disconnected when the thread has come to its end.
///
/// # Errors
/// [`Error::Io`] if the operating system has no thread for it.
pub(crate) fn start(database: PathBuf, parts: Parts) -> Result<Receiver<()>, Error> {
    let (end, ended) = bounded(0);
    let path = database.clone();
    thread::Builder::new()
        .name("edge-outbox".to_owned())
        .spawn(move || live(database, parts, end))
        .map_err(|source| Error::Io { path, source })?;
    Ok(ended)
}

fn live(database: PathBuf, mut parts: Parts, end: Sender<()>) {
    let shared = parts.shared.clone();
    let lived = catch_unwind(AssertUnwindSafe(|| {
        if let Some((lock, standing)) = stand_by(&database, &mut parts) {
            let window = Window::open(&database, &shared);
            forward(&mut parts, standing);
            // Only the lock's holder touches the socket.
            drop((window, lock));
        }
    }));
    if let Err(panic) = lived {
        let said = said(&*panic);
        log::error!("the forwarder panicked, messages are kept and not sent: {said}");
        shared.set_panicked(said);
    }
    shared.update(|view| {
        view.role = Role::Stopped;
        view.link = LinkState::Connecting;
        view.progress = None;
    });
    // Dropping the broker may run an adapter's own code, and those who wait should know the end of that too.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(parts))) {
        shared.set_panicked(said(&*panic));
    }
    drop(end);
}

/// What was asked for while there was nobody to do it.
#[derive(Default)]
struct Standing {
    paused: bool,
    flushes: Flushes,
    stopped: bool,
}

impl Standing {
    /// Hears what came in.
    fn listen(&mut self, parts: &Parts) {
        let mut events = Vec::new();
        parts.shared.mailbox.take_committed();
        parts.shared.mailbox.take(&mut events);
        for event in events {
            match event {
                Event::Command(Command::Stop { .. }) => self.stopped = true,
                Event::Command(Command::Pause) => self.paused = true,
                Event::Command(Command::Resume) => self.paused = false,
                Event::Command(Command::Flush(flush)) => {
                    // Not known how far it reaches: as far as it can, then.
                    self.flushes.push(parts.store.newest().unwrap_or(i64::MAX), flush);
                }
                Event::Settled(..) | Event::Up(..) | Event::Alive(_) | Event::Down(..) | Event::TryNow => {}
            }
        }
    }
}

/// Waits for the lock; `None` when it was told to stop first.
fn stand_by(database: &std::path::Path, parts: &mut Parts) -> Option<(ForwarderLock, Standing)> {
    let mut standing = Standing::default();
    let mut next_try = Instant::now();
    // What the log was told last: it is told of changes, not of every try.
    let mut told = String::new();
    loop {
        if Instant::now() >= next_try {
            next_try = Instant::now() + TAKE_OVER_EVERY;
            match ForwarderLock::try_take(database) {
                Ok(Some(lock)) => return Some((lock, standing)),
                Ok(None) => {
                    let words = format!("another forwarder has {}: standing by", database.display());
                    if told != words {
                        log::info!("{words}");
                        told = words;
                    }
                    parts.shared.update(|view| (view.role, view.storage) = (Role::Standby, Storage::Ok));
                }
                Err(error) => {
                    let why = chain(&error);
                    if told != why {
                        log::warn!("cannot tell whether another forwarder runs: {why}");
                        told.clone_from(&why);
                    }
                    parts.shared.update(|view| view.storage = Storage::Failing(why));
                    if is_lack_of_space(&error) {
                        parts.disk.give_up_reserve();
                    }
                }
            }
        }
        let until = if standing.flushes.is_empty() { next_try } else { Instant::now() + parts.settings.poll_interval };
        let _ = parts.woken.recv_deadline(until.min(next_try));
        standing.listen(parts);
        if standing.stopped {
            return None;
        }
        // The other forwarder settles; this one sees it in the table.
        let store = &parts.store;
        let pending = |target| store.position().and_then(|from| store.is_pending(from, target)).unwrap_or(true);
        standing.flushes.tell(pending);
    }
}

/// Forwards until told to stop. A database that cannot be read yet is tried again.
fn forward(parts: &mut Parts, mut standing: Standing) {
    let mut told = String::new();
    while !standing.stopped {
        match Run::new(parts, standing.paused) {
            Ok(run) => return run.run(standing.flushes),
            Err(error) => {
                if matches!(error, Error::DiskFull(_)) {
                    parts.disk.give_up_reserve();
                }
                let why = chain(&error);
                if told != why {
                    log::warn!("cannot begin to forward: {why}");
                    told.clone_from(&why);
                }
                parts.shared.update(|view| view.storage = Storage::of(&error));
            }
        }
        let _ = parts.woken.recv_deadline(Instant::now() + TAKE_OVER_EVERY);
        standing.listen(parts);
    }
}

fn is_lack_of_space(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}
