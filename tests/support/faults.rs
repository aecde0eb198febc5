//! Calls on the files of a database that fail as a test says, in another process and while it runs: `faults.c`, which
//! is compiled here and preloaded there.
#![allow(dead_code, reason = "each user includes this file and takes what it needs")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::io::Errno;
use tempfile::TempDir;

/// What becomes of the calls.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    /// They answer this, and are not made.
    Answer(Errno),
    /// Writes write half of what they are given.
    Half,
    /// The process is killed in front of them.
    Kill,
    /// Syncs answer EIO, and what they were to keep is [lost](Faults::cut_power) in a power cut, as Linux does it: later
    /// syncs succeed and say nothing of it.
    Lose,
}

/// Which calls.
pub const WRITE: i64 = 1;
pub const SYNC: i64 = 2;
pub const TRUNCATE: i64 = 4;
pub const ANY_CALL: i64 = WRITE | SYNC | TRUNCATE;

/// On which files.
pub const DATABASE: i64 = 1;
pub const LOG: i64 = 2;
pub const INDEX: i64 = 4;
pub const JOURNAL: i64 = 8;
/// Those of the outbox beside the database.
pub const OWN: i64 = 16;
pub const ANY_FILE: i64 = DATABASE | LOG | INDEX | JOURNAL;

/// The places of the numbers in the file that both have mapped, as in `faults.c`.
const ACTION: u64 = 0;
const SEEN: u64 = 5;
const FAILED: u64 = 6;
const NUMBERS: u64 = 7;
/// Where the pages stand in it, of the database and of its log: as in `faults.c`.
const PAGE: usize = 4096;
const PAGES: usize = 16_384;
const OF_A_FILE: usize = PAGES + PAGES * PAGE;
/// In a page's state: what the card has is not what was written, and no sync has it any more.
const LOST: u8 = 3;
const ZEROS: u8 = 4;

/// What a process that was started [with it](Self::preload) is to meet.
pub struct Faults {
    orders: File,
    path: PathBuf,
    _folder: TempDir,
}

impl Faults {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders");
        let orders = OpenOptions::new().create_new(true).read(true).write(true).open(&path).unwrap();
        orders.set_len(8 * NUMBERS).unwrap();
        Faults { orders, path, _folder: folder }
    }

    /// The same, of a process whose power is to be [cut](Self::cut_power).
    pub fn with_pages() -> Self {
        let faults = Faults::new();
        faults.orders.set_len((PAGE + 2 * OF_A_FILE) as u64).unwrap();
        faults
    }

    /// A power cut, as far as failed syncs go: the process is dead, and what [`Does::Lose`] lost becomes what the card
    /// has. The rest stays, synced or not. Answers how many pages that are.
    pub fn cut_power(&self, database: &Path) -> io::Result<usize> {
        let mut lost = 0;
        for (file, suffix) in ["", "-wal"].into_iter().enumerate() {
            let mut path = database.as_os_str().to_owned();
            path.push(suffix);
            let Ok(file_on_card) = OpenOptions::new().write(true).open(path) else { continue };
            let (of_this, size) = ((PAGE + file * OF_A_FILE) as u64, file_on_card.metadata()?.len());
            let mut states = vec![0; PAGES];
            self.orders.read_exact_at(&mut states, of_this)?;
            for (page, _) in states.iter().enumerate().filter(|(_, state)| matches!(**state, LOST | ZEROS)) {
                let (at, mut bytes) = ((page * PAGE) as u64, vec![0; PAGE]);
                self.orders.read_exact_at(&mut bytes, of_this + PAGES as u64 + at)?;
                bytes.truncate(size.saturating_sub(at) as usize); // it becomes no longer by it
                file_on_card.write_all_at(&bytes, at)?;
                lost += 1;
            }
        }
        Ok(lost)
    }

    /// Puts it in front of the C library of a process that is about to begin.
    pub fn preload(&self, command: &mut Command) {
        command.env("LD_PRELOAD", library()).env("EDGE_OUTBOX_FAULTS", &self.path);
    }

    /// From now on, until [`heal`](Self::heal).
    pub fn every(&self, does: Does, calls: i64, files: i64) {
        self.some(does, calls, files, 1, i64::MAX);
    }

    /// The `from`-th such call from now on, and the `count` − 1 after it.
    pub fn some(&self, does: Does, calls: i64, files: i64, from: i64, count: i64) {
        self.heal();
        let action = match does {
            Does::Answer(errno) => i64::from(errno.raw_os_error()),
            Does::Kill => -1,
            Does::Half => -2,
            Does::Lose => -3,
        };
        // What to do comes last: it is what begins it.
        let numbers = [calls, files, from, count, 0, 0];
        for (place, number) in (1..).zip(numbers) {
            self.put(place, number);
        }
        self.put(ACTION, action);
    }

    pub fn heal(&self) {
        self.put(ACTION, 0);
    }

    /// How many such calls there were, since the fault began.
    pub fn seen(&self) -> i64 {
        self.get(SEEN)
    }

    /// How many of them failed.
    pub fn failed(&self) -> i64 {
        self.get(FAILED)
    }

    fn put(&self, place: u64, number: i64) {
        self.orders.write_all_at(&number.to_ne_bytes(), 8 * place).unwrap();
    }

    fn get(&self, place: u64) -> i64 {
        let mut bytes = [0; 8];
        self.orders.read_exact_at(&mut bytes, 8 * place).unwrap();
        i64::from_ne_bytes(bytes)
    }
}

/// `faults.c`, compiled once by each process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/faults.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let library = folder.join("faults.so");
        // Another test binary may do the same at this moment.
        let unfinished = folder.join(format!("faults.so.{}", std::process::id()));
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&unfinished).arg(source).status();
        assert!(compiled.unwrap().success(), "cc does not compile {source}");
        fs::rename(&unfinished, &library).unwrap();
        library
    })
}
