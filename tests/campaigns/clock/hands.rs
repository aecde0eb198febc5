//! The wall clock of another process, and who sets it: libfaketime where it is installed (`apt-get install faketime`),
//! a tool that is well known and knows nothing of us; else the preload of tests/support/clock.c.
//!
//! libfaketime works on programs in Rust only if it leaves the monotonic clock alone: std waits on futexes that it does
//! not see, by a clock that it would have changed (libfaketime issue 469).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::wall_clock::Clock;

/// In the autumn of 2001: where the clock stands, or begins.
pub const SECOND: i64 = 1_000_000_000;
/// The same as libfaketime reads it, in UTC.
const SECOND_IN_WORDS: &str = "2001-09-09 01:46:40";

/// Sets the clock of the processes that were started [with it](Self::preload).
pub enum Hands {
    Faketime { library: PathBuf, folder: TempDir },
    Ours(Clock),
}

impl Hands {
    /// `ours`: not libfaketime, though it may be there.
    ///
    /// # Errors
    /// Why nobody can set it here.
    pub fn new(ours: bool) -> Result<Self, String> {
        match find_faketime().filter(|_| !ours) {
            Some(library) => Ok(Hands::Faketime { library, folder: tempfile::tempdir().unwrap() }),
            None => {
                let why = "neither libfaketime nor a C compiler is installed: nobody sets the clock of another process";
                Clock::new().map(Hands::Ours).ok_or_else(|| why.to_owned())
            }
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Hands::Faketime { .. } => "libfaketime",
            Hands::Ours(_) => "tests/support/clock.c",
        }
    }

    /// For a process that is about to begin.
    pub fn preload(&self, command: &mut Command) {
        match self {
            Hands::Faketime { library, folder } => {
                command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", folder.path().join("clock"));
                command.envs([("FAKETIME_NO_CACHE", "1"), ("DONT_FAKE_MONOTONIC", "1"), ("TZ", "UTC")]);
            }
            Hands::Ours(clock) => clock.preload(command),
        }
    }

    /// It jumps there, in seconds since 1970, and goes on.
    pub fn jump(&self, to: i64) {
        match self {
            Hands::Faketime { folder, .. } => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
                order(folder.path(), &format!("{:+}", to - now));
            }
            Hands::Ours(clock) => clock.set(to),
        }
    }

    /// It stands at [`SECOND`].
    pub fn stand(&self) {
        match self {
            Hands::Faketime { folder, .. } => order(folder.path(), SECOND_IN_WORDS),
            Hands::Ours(clock) => clock.stop(SECOND),
        }
    }

    /// For the process that begins next it is [`SECOND`], and goes on.
    pub fn boot(&self) {
        match self {
            Hands::Faketime { folder, .. } => order(folder.path(), &format!("@{SECOND_IN_WORDS}")),
            Hands::Ours(clock) => clock.set(SECOND),
        }
    }

    /// Waits until it goes by this clock, or not much longer. Killed before, libfaketime would leave a file of which
    /// nobody knows the name.
    pub fn wait_for(&self, pid: u32) {
        let until = Instant::now() + Duration::from_secs(1);
        let is_set = || !matches!(self, Hands::Faketime { .. }) || Path::new(&left_behind(pid)[1]).exists();
        while !is_set() && Instant::now() < until {
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Removes what libfaketime leaves behind of each process that was killed.
    pub fn bury(&self, pid: u32) {
        if let Hands::Faketime { .. } = self {
            for left in left_behind(pid) {
                // One that ended by itself leaves nothing.
                let _ = fs::remove_file(left);
            }
        }
    }
}

/// What libfaketime makes for each process, in this order.
fn left_behind(pid: u32) -> [String; 2] {
    [format!("/dev/shm/sem.faketime_sem_{pid}"), format!("/dev/shm/faketime_shm_{pid}")]
}

/// It is read at any moment: all of it, or what was there before.
fn order(folder: &Path, words: &str) {
    let next = folder.join("next");
    fs::write(&next, format!("{words}\n")).unwrap();
    fs::rename(next, folder.join("clock")).unwrap();
}

/// The one for programs with threads.
fn find_faketime() -> Option<PathBuf> {
    let of_debian = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let folders = of_debian.chain(["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from));
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|file| file.is_file())
}
