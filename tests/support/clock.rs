//! A wall clock that says what a test says, in another process and while it runs: `clock.c`, which is compiled here and
//! preloaded there.
#![allow(dead_code, reason = "each user includes this file and takes what it needs")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

/// The clock of a process that was started [with it](Self::preload). It is right until it is told otherwise.
pub struct Clock {
    orders: File,
    path: PathBuf,
    library: PathBuf,
    _folder: TempDir,
}

impl Clock {
    /// `None` where there is no C compiler: says so, in words.
    pub fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (library, path) = (folder.path().join("clock.so"), folder.path().join("orders"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock.c");
        let mut cc = Command::new("cc");
        match cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").status() {
            Ok(status) => assert!(status.success(), "cc does not compile {source}"),
            Err(error) => {
                println!("SKIPPED: the clock of another process is set by a C library, and there is no cc: {error}");
                return None;
            }
        }
        let orders = OpenOptions::new().create_new(true).read(true).write(true).open(&path).unwrap();
        orders.set_len(16).unwrap();
        Some(Clock { orders, path, library, _folder: folder })
    }

    /// Puts it in front of the C library of a process that is about to begin.
    pub fn preload(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("EDGE_OUTBOX_CLOCK", &self.path);
    }

    /// It goes on from there, in seconds since 1970.
    pub fn set(&self, seconds: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
        self.order(0, seconds * 1_000_000_000 - now);
    }

    /// It stands there, in seconds since 1970.
    pub fn stop(&self, seconds: i64) {
        self.order(1, seconds * 1_000_000_000);
    }

    fn order(&self, stands: i64, ns: i64) {
        let bytes = [stands.to_ne_bytes(), ns.to_ne_bytes()].concat();
        self.orders.write_all_at(&bytes, 0).unwrap();
    }

    /// It jumps to any second between 1972 and 2080 every few milliseconds, until `over`.
    pub fn jump(&self, mut chance: impl FnMut() -> u64, over: &AtomicBool) {
        const FROM: i64 = 2 * 365 * 86_400;
        const TO: i64 = 110 * 365 * 86_400;
        while !over.load(Ordering::Relaxed) {
            self.set(FROM + (chance() % (TO - FROM) as u64) as i64);
            thread::sleep(Duration::from_millis(chance() % 5));
        }
    }
}
