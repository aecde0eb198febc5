//! The card: what of a database is on it for good, and what a power cut may make of the rest.
//!
//! Harsher than ext4, which keeps names and sizes in order: this is what SQLite is designed for. What was written and not
//! synced may have come to the card or not, in any order, in part (of sectors of 512 bytes, of which those bytes alone
//! that were written), or as garbage. A sync of a file vouches for what was written to it before that sync began. A
//! name that was made or deleted holds for certain after a sync of its folder, and each by itself may hold before; a file
//! that is synced and has no name is lost.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::recorder::{Entry, FOLDER, Log, SUFFIXES};
use crate::chance::Chance;

const SECTOR: u64 = 512;

/// What becomes of what is not synced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mode {
    /// Nothing of it is there.
    Dropped,
    /// All of it is: what a process finds after another one was killed.
    Kept,
    /// Some writes are there, and others, earlier ones too, are not.
    Reordered,
    /// Of each write some sectors are there.
    Torn,
    /// The writes up to one, and of that one some sectors.
    Last,
    /// The same, with garbage in the other sectors of that one, and in place of some of those after it.
    Garbage,
}

pub const MODES: [Mode; 6] = [Mode::Dropped, Mode::Kept, Mode::Reordered, Mode::Torn, Mode::Last, Mode::Garbage];

/// What changes a file, and the entry of the log that says so.
#[derive(Clone)]
enum Change {
    Write { entry: usize, at: u64, bytes: Range<usize> },
    Size { entry: usize, size: u64 },
}

impl Change {
    fn entry(&self) -> usize {
        match self {
            Change::Write { entry, .. } | Change::Size { entry, .. } => *entry,
        }
    }
}

/// Something that is on the card for certain, and changes of it that may be.
#[derive(Clone)]
struct Unsure<T, C> {
    certain: T,
    changes: Vec<C>,
    /// How many changes have become certain so far.
    settled: usize,
}

impl<T: Default, C> Default for Unsure<T, C> {
    fn default() -> Self {
        Unsure { certain: T::default(), changes: Vec::new(), settled: 0 }
    }
}

type Content = Unsure<Vec<u8>, Change>;
/// Which content a name has.
type Name = Unsure<Option<usize>, Option<usize>>;

#[derive(Clone, Default)]
pub struct Card {
    contents: Vec<Content>,
    names: [Name; SUFFIXES.len()],
    /// Syncs that have begun, and up to which changes of what they vouch.
    syncs: Vec<(u32, Vec<(Synced, usize)>)>,
}

#[derive(Clone, Copy)]
enum Synced {
    Content(usize),
    Name(usize),
}

/// Files as they may be found: one per name, where there is one.
pub type Files = [Option<Vec<u8>>; SUFFIXES.len()];

impl Card {
    /// One that holds these files for certain.
    pub fn holding(files: Files) -> Self {
        let mut card = Card::default();
        for (name, content) in card.names.iter_mut().zip(files) {
            if let Some(certain) = content {
                name.certain = Some(card.contents.len());
                card.contents.push(Content { certain, ..Content::default() });
            }
        }
        card
    }

    /// What the entry of that number does.
    pub fn apply(&mut self, number: usize, entry: &Entry) {
        match entry {
            Entry::Create { file } => {
                self.names[*file].changes.push(Some(self.contents.len()));
                self.contents.push(Content::default());
            }
            Entry::Unlink { file } => self.names[*file].changes.push(None),
            Entry::Write { file, at, bytes } => {
                self.of(*file).changes.push(Change::Write { entry: number, at: *at, bytes: bytes.clone() });
            }
            Entry::Size { file, size } => self.of(*file).changes.push(Change::Size { entry: number, size: *size }),
            Entry::SyncBegun { what, id } => {
                let vouched = self.vouched(*what);
                self.syncs.push((*id, vouched));
            }
            Entry::Life => self.syncs.clear(),
            Entry::SyncDone { .. } | Entry::Said(_) => {}
        }
    }

    /// [`apply`](Self::apply), for an entry that may need the log's bytes.
    pub fn follow(&mut self, number: usize, log: &Log) {
        let entry = &log.entries[number];
        if let Entry::SyncDone { id } = entry {
            let place = self.syncs.iter().position(|(begun, _)| begun == id).expect("it has begun");
            for (what, upto) in self.syncs.swap_remove(place).1 {
                self.settle(what, upto, log);
            }
        } else {
            self.apply(number, entry);
        }
    }

    fn of(&mut self, file: usize) -> &mut Content {
        let name = &self.names[file];
        let content = name.changes.last().unwrap_or(&name.certain).expect("an open file was there or made");
        &mut self.contents[content]
    }

    fn vouched(&mut self, what: usize) -> Vec<(Synced, usize)> {
        if what == FOLDER {
            let names = self.names.iter().enumerate();
            return names.map(|(n, name)| (Synced::Name(n), name.settled + name.changes.len())).collect();
        }
        let name = &self.names[what];
        let content = name.changes.last().unwrap_or(&name.certain).expect("an open file was there or made");
        let Content { settled, changes, .. } = &self.contents[content];
        vec![(Synced::Content(content), settled + changes.len())]
    }

    fn settle(&mut self, what: Synced, upto: usize, log: &Log) {
        match what {
            Synced::Name(name) => {
                let name = &mut self.names[name];
                let count = upto.saturating_sub(name.settled);
                name.certain = name.changes.drain(..count).next_back().unwrap_or(name.certain);
                name.settled += count;
            }
            Synced::Content(content) => {
                let content = &mut self.contents[content];
                let count = upto.saturating_sub(content.settled);
                for change in content.changes.drain(..count) {
                    change.make(&mut content.certain, log);
                }
                content.settled += count;
            }
        }
    }

    /// The files as a cut at this moment may leave them.
    pub fn after_cut(&self, log: &Log, mode: Mode, chance: &mut Chance) -> Files {
        let upto = self.last_kept(chance);
        let likely = chance.pick(&[1, 2, 2, 3, 8]);
        let keeps = |chance: &mut Chance| !chance.one_in(likely + 1);
        std::array::from_fn(|n| {
            let name = &self.names[n];
            let made = match mode {
                Mode::Dropped => 0,
                Mode::Kept => name.changes.len(),
                _ => chance.of(0..=name.changes.len()),
            };
            let content = name.changes[..made].last().unwrap_or(&name.certain).as_ref()?;
            let content = &self.contents[*content];
            let mut found = content.certain.clone();
            for change in &content.changes {
                match mode {
                    Mode::Dropped => break,
                    Mode::Kept => change.make(&mut found, log),
                    Mode::Reordered if keeps(chance) => change.make(&mut found, log),
                    Mode::Reordered => {}
                    Mode::Torn => change.make_in_part(&mut found, log, chance, Part::Sectors),
                    Mode::Last | Mode::Garbage if change.entry() < upto => change.make(&mut found, log),
                    Mode::Last if change.entry() == upto => {
                        change.make_in_part(&mut found, log, chance, Part::Sectors);
                    }
                    Mode::Last => break,
                    Mode::Garbage if change.entry() == upto || chance.one_in(4) => {
                        change.make_in_part(&mut found, log, chance, Part::Garbage);
                    }
                    Mode::Garbage => {}
                }
            }
            Some(found)
        })
    }

    /// An entry among those that are not synced.
    fn last_kept(&self, chance: &mut Chance) -> usize {
        let unsure: Vec<usize> = self.contents.iter().flat_map(|c| &c.changes).map(Change::entry).collect();
        if unsure.is_empty() { 0 } else { chance.pick(&unsure) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Some sectors, the others as they were.
    Sectors,
    /// Some sectors, garbage in others.
    Garbage,
}

impl Change {
    fn make(&self, found: &mut Vec<u8>, log: &Log) {
        match self {
            Change::Write { at, bytes, .. } => put(found, *at, &log.bytes[bytes.clone()]),
            Change::Size { size, .. } => found.resize(*size as usize, 0),
        }
    }

    fn make_in_part(&self, found: &mut Vec<u8>, log: &Log, chance: &mut Chance, part: Part) {
        let Change::Write { at, bytes, .. } = self else {
            if chance.one_in(2) {
                self.make(found, log);
            }
            return;
        };
        let bytes = &log.bytes[bytes.clone()];
        let mut done = 0;
        while done < bytes.len() {
            let place = at + done as u64;
            let end = bytes.len().min(done + (SECTOR - place % SECTOR) as usize);
            match (chance.of(0..=3), part) {
                (0 | 1, _) => put(found, place, &bytes[done..end]),
                (2, Part::Garbage) => {
                    let garbage: Vec<u8> = (done..end).map(|_| chance.of(0..=255) as u8).collect();
                    put(found, place, &garbage);
                }
                _ => {}
            }
            done = end;
        }
    }
}

fn put(found: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = at as usize;
    if found.len() < at + bytes.len() {
        found.resize(at + bytes.len(), 0);
    }
    found[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The files of a database, as they are in a folder.
pub fn read(database: &Path) -> io::Result<Files> {
    let mut files = Files::default();
    for (file, suffix) in files.iter_mut().zip(SUFFIXES) {
        *file = match fs::read(beside(database, suffix)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read?),
        };
    }
    Ok(files)
}

/// Puts them into a folder, in the place of those that are there.
pub fn write(files: &Files, database: &Path) -> io::Result<()> {
    for (file, suffix) in files.iter().zip(SUFFIXES) {
        let path = beside(database, suffix);
        match file {
            Some(bytes) => {
                let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
                file.write_all(bytes)?;
                file.set_len(bytes.len() as u64)?;
            }
            None => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
        }
    }
    Ok(())
}

pub fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
