//! What a process did to its database and said, in the order in which it did: written down by `recorder.c`, which is
//! compiled here and preloaded there.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;

/// The files that SQLite keeps, by their number in the log. `-shm` is a shared map, which nothing that survives a power
/// cut depends on: it is not recorded.
pub const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];
/// The number of the folder that they are in.
pub const FOLDER: usize = SUFFIXES.len();
/// What else may stand beside them. Not recorded: nothing in them is ever needed, and a cut may leave them in any state.
pub const OTHERS: [&str; 5] = ["-shm", "-outbox-lock", "-outbox-reserve", "-outbox-status", "-outbox-probe"];

/// One entry; bytes are given by their place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Create {
        file: usize,
    },
    Write {
        file: usize,
        at: u64,
        bytes: Range<usize>,
    },
    Size {
        file: usize,
        size: u64,
    },
    Unlink {
        file: usize,
    },
    SyncBegun {
        what: usize,
        id: u32,
    },
    SyncDone {
        id: u32,
    },
    Said(String),
    /// A process begins.
    Life,
}

/// Of all that was recorded of one database, in one folder.
#[derive(Default)]
pub struct Log {
    pub bytes: Vec<u8>,
    pub entries: Vec<Entry>,
}

/// How it is recorded.
#[derive(Clone, Copy, Default)]
pub struct Recording {
    /// The process is killed in front of this entry of its own; 0 is never.
    pub last_entry: u64,
    /// How long a sync takes.
    pub sync_us: u64,
    /// Of these files, by their number, the card says that it has synced them, and has not.
    pub lies_about: &'static [usize],
}

impl Recording {
    /// Puts the recorder in front of the C library of a process that is about to begin.
    pub fn preload(self, command: &mut Command, database: &Path, log: &Path) {
        command.env("LD_PRELOAD", library()).env("EDGE_OUTBOX_RECORDED", database).env("EDGE_OUTBOX_LOG", log);
        command.env("EDGE_OUTBOX_LAST_ENTRY", self.last_entry.to_string());
        command.env("EDGE_OUTBOX_SYNC_US", self.sync_us.to_string());
        let lies = self.lies_about.iter().fold(0, |lies, file| lies | 1 << file);
        command.env("EDGE_OUTBOX_LYING_CARD", format!("{lies}"));
    }
}

impl Log {
    pub fn read(path: &Path) -> Result<Log, String> {
        let bytes = fs::read(path).map_err(|why| format!("{}: {why}", path.display()))?;
        let mut entries = Vec::new();
        let mut rest = 0;
        while rest < bytes.len() {
            let header = bytes.get(rest..rest + 24).ok_or("the log ends within an entry")?;
            let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
            let (kind, what, at) = (header[0], usize::from(header[1]), number(8));
            let id = u32::from_le_bytes(header[4..8].try_into().expect("four bytes"));
            let content = rest + 24..rest + 24 + number(16) as usize;
            let said = bytes.get(content.clone()).ok_or("the log ends within an entry")?;
            rest = content.end;
            entries.push(match kind {
                1 => Entry::Create { file: what },
                2 => Entry::Write { file: what, at, bytes: content },
                3 => Entry::Size { file: what, size: at },
                4 => Entry::Unlink { file: what },
                5 => Entry::SyncBegun { what, id },
                6 => Entry::SyncDone { id },
                7 => Entry::Said(String::from_utf8_lossy(said).trim_end().to_owned()),
                8 => Entry::Life,
                kind => return Err(format!("the log has an entry of kind {kind}")),
            });
        }
        Ok(Log { bytes, entries })
    }
}

/// `recorder.c`, compiled once by each process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/campaigns/power/recorder.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let library = folder.join("recorder.so");
        // Another run of this may do the same at this moment.
        let unfinished = folder.join(format!("recorder.so.{}", process::id()));
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&unfinished).arg(source).status();
        assert!(compiled.is_ok_and(|status| status.success()), "cc does not compile {source}");
        fs::rename(&unfinished, &library).unwrap();
        library
    })
}
