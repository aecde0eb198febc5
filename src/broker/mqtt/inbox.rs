//! What others leave for the session's thread.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::broker::Delivery;

/// Deliveries on their way to the session, the connection it waits for, and the word to stop.
///
/// One lock and one ring of the bell per batch: the bell is a socket, for which the session can wait beside its
/// connection, and it is rung once until the session looks.
pub(super) struct Inbox {
    left: Mutex<Left>,
    bell: UnixStream,
    ear: UnixStream,
}

#[derive(Default)]
struct Left {
    deliveries: VecDeque<Delivery>,
    connection: Option<io::Result<TcpStream>>,
    word: Word,
    rung: bool,
    closed: bool,
}

/// What the forwarder wants beside sending.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    /// By when the session has to end, if it has to.
    pub until: Option<Instant>,
    /// Whether the broker is to be asked for a sign of life.
    pub ping: bool,
}

impl Word {
    pub fn is_stop_now(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

impl Inbox {
    pub fn new() -> io::Result<Self> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok(Inbox { left: Mutex::default(), bell, ear })
    }

    /// Moves all of `queue` here; leaves it alone once the session has ended. Bounded by the limits that the session
    /// announced, within which the forwarder stays.
    pub fn put(&self, queue: &mut VecDeque<Delivery>) {
        self.leave(|left| {
            let takes = !left.closed && !queue.is_empty();
            if takes {
                left.deliveries.append(queue);
            }
            takes
        });
    }

    /// Leaves what came of the try to connect.
    pub fn put_connection(&self, connection: io::Result<TcpStream>) {
        self.leave(|left| {
            if !left.closed {
                left.connection = Some(connection);
            }
            !left.closed
        });
    }

    /// Tells the session to end by `until`. Of several words the earliest counts.
    pub fn stop(&self, until: Instant) {
        self.leave(|left| {
            left.word.until = Some(left.word.until.map_or(until, |earlier| earlier.min(until)));
            true
        });
    }

    /// Tells the session to ask for a sign of life.
    pub fn ping(&self) {
        self.leave(|left| {
            left.word.ping = true;
            true
        });
    }

    /// Rings if `what` left something and nobody has rung before.
    fn leave(&self, what: impl FnOnce(&mut Left) -> bool) {
        let rings = {
            let mut left = self.lock();
            what(&mut left) && !mem::replace(&mut left.rung, true)
        };
        if rings {
            let _ = (&self.bell).write(&[0]); // full: the session has yet to hear the rings before it
        }
    }

    /// Moves the deliveries that have come behind `queue`, and answers with the forwarder's word.
    pub fn take(&self, queue: &mut VecDeque<Delivery>) -> Word {
        let mut left = self.listen();
        queue.append(&mut left.deliveries);
        let word = left.word;
        left.word.ping = false;
        word
    }

    /// The forwarder's word, and what came of the try to connect, if that is known by now.
    pub fn take_connection(&self) -> (Word, Option<io::Result<TcpStream>>) {
        let mut left = self.listen();
        (left.word, left.connection.take())
    }

    fn listen(&self) -> MutexGuard<'_, Left> {
        let mut rings = [0; 16];
        while matches!((&self.ear).read(&mut rings), Ok(16)) {}
        let mut left = self.lock();
        left.rung = false;
        left
    }

    /// Takes no more but the word to stop. What nobody took comes back as not delivered.
    pub fn close(&self) {
        let unsent = {
            let mut left = self.lock();
            left.closed = true;
            left.connection = None;
            mem::take(&mut left.deliveries)
        };
        drop(unsent); // receipts speak with the mailbox: not under our lock
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Readable when there is something to take.
impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }
}
