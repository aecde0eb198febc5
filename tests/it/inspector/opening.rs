//! Opening to look: nothing is created, nothing is changed, and what cannot be read is refused in words.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use edge_outbox::inspector::Filter;
use edge_outbox::rusqlite::Connection;
use edge_outbox::{Error, Inspector, Message, Outbox};

use crate::child::{Child, say, wait_for_cue};
use crate::device::{Device, SOON, enqueue, eventually, numbered, value};
use crate::opening::skipped;

const SHORT: Duration = Duration::from_millis(100);
const NOBODY: u32 = 65_534;

/// Every file in the folder and what stands in it, but for what is in the index of the log: locks and nothing that lasts.
fn files(device: &Device) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(device.folder()).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let read = !name.ends_with("-shm") && entry.file_type().unwrap().is_file();
            (name, if read { fs::read(entry.path()).unwrap() } else { Vec::new() })
        })
        .filter(|(name, _)| !name.ends_with("-outbox-reserve"))
        .collect()
}

fn beside(device: &Device, suffix: &str) -> PathBuf {
    let mut path = device.database().into_os_string();
    path.push(suffix);
    path.into()
}

/// Opens, must be refused in words that name the file, and finds every file as it was.
#[track_caller]
fn refused(device: &Device) -> Error {
    let before = files(device);
    let error = Inspector::open(device.database(), SHORT).unwrap_err();
    assert!(files(device) == before, "the files have changed: {:?}", files(device).keys());
    error
}

/// Asks everything that there is to ask.
fn look(database: &Path) -> Result<u64, Error> {
    let inspector = Inspector::open(database, SHORT)?;
    let figures = inspector.figures()?;
    let messages = inspector.messages(&Filter::default(), 0, 1_000)?;
    assert_eq!(messages.len() as u64, figures.pending + figures.failed + figures.sent);
    for message in &messages {
        assert!(inspector.message(message.id.row())?.is_some());
    }
    Ok(figures.pending)
}

/// The part of somebody else who looks, on cue.
pub fn looks(database: &Path) {
    while wait_for_cue() {
        match look(database) {
            Ok(pending) => say(format_args!("pending: {pending}")),
            Err(error) => say(error),
        }
    }
}

/// What somebody else sees who may do nothing that is not allowed to everybody; nothing may change by it.
#[track_caller]
fn nobody_sees(device: &Device) -> Option<String> {
    let before = files(device);
    let said = match Child::play_as_nobody("inspector::looks", &device.database()) {
        Ok(mut child) => {
            let said = child.ask("look");
            child.end();
            said
        }
        Err(error) => {
            skipped("looking as another user", &format!("no process of another user: {error}"));
            return None;
        }
    };
    assert!(files(device) == before, "the files have changed: {:?}; it said: {said}", files(device).keys());
    Some(said)
}

/// A device with messages, whose folder and files everybody may read and nobody else may write; -wal and -shm are left
/// beside it, as an outbox leaves them.
fn device(messages: usize) -> Device {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("t", 0..messages));
    allow(&device, 0o755, 0o644);
    device
}

fn allow(device: &Device, folder: u32, file: u32) {
    fs::set_permissions(device.folder(), Permissions::from_mode(folder)).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        if let Ok(found) = fs::metadata(beside(device, suffix)) {
            let mut permissions = found.permissions();
            permissions.set_mode(file);
            fs::set_permissions(beside(device, suffix), permissions).unwrap();
        }
    }
}

/// As a database that everybody has closed by SQLite's own ways: -wal and -shm are gone.
fn close_for_good(device: &Device) {
    // A pool closes its connections in the background.
    eventually("everybody has closed it", || {
        drop(device.sql().execute("PRAGMA user_version = 1", []));
        files(device).into_keys().eq(["device.db"])
    });
}

/// As if nobody had written it for an hour.
fn age(device: &Device) {
    let file = fs::File::options().write(true).open(device.database()).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
}

#[test]
fn what_does_not_exist_is_missing_and_not_made() {
    let device = Device::new();
    assert!(matches!(refused(&device), Error::Missing { .. }));
    let path = device.folder().join("missing").join("device.db");
    assert!(matches!(Inspector::open(&path, SHORT), Err(Error::Missing { .. })));
    for path in [":memory:", "", "file:device.db?mode=rwc"] {
        assert!(matches!(Inspector::open(path, SHORT), Err(Error::Missing { .. })), "{path:?}");
    }
    assert_eq!(fs::read_dir(device.folder()).unwrap().count(), 0);
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let device = Device::new();
    fs::create_dir(device.database()).unwrap();
    let error = refused(&device);
    assert!(matches!(error, Error::NotReadable { .. }), "{error:?}");
    assert!(error.to_string().contains("device.db") && error.to_string().contains("a folder"), "{error}");
    let error = Inspector::open("/dev/null", SHORT).unwrap_err();
    assert!(matches!(error, Error::NotReadable { .. }), "{error:?}");
}

#[test]
fn an_empty_file_has_no_outbox_and_stays_empty() {
    let device = Device::new();
    fs::File::create(device.database()).unwrap();
    let error = refused(&device);
    assert!(matches!(error, Error::NoOutbox { .. }), "{error:?}");
}

#[test]
fn a_text_is_no_database_and_stays_as_it_is() {
    for words in ["dear aunt".to_owned(), "dear aunt, ".repeat(1_000)] {
        let device = Device::new();
        fs::write(device.database(), words).unwrap();
        let error = refused(&device);
        assert!(matches!(error, Error::NotADatabase { .. }), "{error:?}");
        assert!(error.to_string().contains("device.db"), "{error}");
    }
}

#[test]
fn a_database_without_an_outbox_is_refused_in_any_journal_mode_and_gets_no_file_beside_it() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "WAL"] {
        let device = Device::new();
        device
            .sql()
            .execute_batch(&format!("PRAGMA journal_mode = {mode}; CREATE TABLE reading (value REAL)"))
            .unwrap();
        age(&device);
        let error = refused(&device);
        assert!(matches!(error, Error::NoOutbox { .. }), "{mode}: {error:?}");
        assert!(error.to_string().contains("device.db"), "{error}");
    }
}

#[test]
fn a_writer_that_refuses_a_database_leaves_no_file_beside_it_and_no_log_is_moved() {
    for table in ["reading (value REAL)", "outbox (id INTEGER PRIMARY KEY, mail TEXT)"] {
        let device = Device::new();
        device.sql().execute_batch(&format!("PRAGMA journal_mode = WAL; CREATE TABLE {table}")).unwrap();
        let before = files(&device);
        assert!(before.keys().eq(["device.db"]), "its program has closed it");
        Outbox::builder(device.database()).existing().open().unwrap_err();
        assert!(files(&device) == before, "{:?}", files(&device).keys());
        // Nor is anything of a log that was left moved into the database.
        let theirs = device.sql();
        theirs.execute_batch("CREATE TABLE more (x)").unwrap();
        let before = files(&device);
        Outbox::builder(device.database()).existing().open().unwrap_err();
        assert!(files(&device) == before, "{:?}", files(&device).keys());
    }
}

#[test]
fn a_foreign_table_and_a_newer_schema_are_refused_in_words() {
    let device = Device::new();
    device.sql().execute_batch("CREATE TABLE outbox (id INTEGER PRIMARY KEY, mail TEXT)").unwrap();
    let error = refused(&device);
    assert!(matches!(&error, Error::ForeignTable { name } if name == "outbox"), "{error:?}");

    let device = self::device(1);
    device.sql().execute("UPDATE outbox_state SET version = 99", []).unwrap();
    age(&device);
    let error = refused(&device);
    assert!(matches!(error, Error::NewerSchema { found: 99, known: 1 }), "{error:?}");
}

#[test]
fn a_damaged_first_page_is_told_and_left_as_it_is() {
    // The text it begins with, the page size, the kind of the schema's page.
    for (at, length) in [(0, 16), (16, 4), (100, 8)] {
        let device = device(3);
        close_for_good(&device);
        let mut bytes = fs::read(device.database()).unwrap();
        bytes[at..at + length].fill(0xff);
        fs::write(device.database(), bytes).unwrap();
        age(&device);
        let error = refused(&device);
        assert!(matches!(error, Error::NotADatabase { .. } | Error::Damaged(_)), "at {at}: {error:?}");
    }
}

#[test]
fn a_damaged_page_of_the_table_is_told_by_who_comes_upon_it() {
    let device = Device::new();
    let payload = "x".repeat(3_000); // a page each
    enqueue(&device.open_writer(), (0..50).map(|_| Message::text("t", payload.clone())));
    close_for_good(&device);
    let mut bytes = fs::read(device.database()).unwrap();
    let page: usize = 4096;
    let last = bytes.len() / page - 1;
    let kind_of_leaf = 13;
    assert_eq!(bytes[last * page], kind_of_leaf);
    bytes[last * page..][..8].fill(0xff);
    fs::write(device.database(), bytes).unwrap();
    age(&device);
    let before = files(&device);
    let inspector = Inspector::open(device.database(), SHORT).unwrap();
    assert!(matches!(inspector.figures(), Err(Error::Damaged(_))));
    assert!(matches!(inspector.messages(&Filter::default(), 0, 100), Err(Error::Damaged(_))));
    // What stands before it can be read, and the connection is as good as before.
    assert_eq!(inspector.messages(&Filter::default(), 0, 10).unwrap().len(), 10);
    assert!(inspector.message(1).unwrap().is_some());
    drop(inspector);
    assert!(files(&device) == before);
}

#[test]
fn a_database_that_a_program_has_for_itself_alone_is_busy_after_the_time_that_was_set() {
    for mode in ["WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"] {
        let device = device(1);
        close_for_good(&device);
        age(&device);
        let other = Connection::open(device.database()).unwrap();
        other
            .execute_batch(&format!(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = {mode};
                 INSERT INTO outbox (topic, payload) VALUES ('t', 'p')"
            ))
            .unwrap();
        let begun = Instant::now();
        let error = refused(&device);
        assert!(matches!(error, Error::Busy(_)), "{mode}: {error:?}");
        assert!(begun.elapsed() >= SHORT && begun.elapsed() < SOON / 4, "{mode}: {:?}", begun.elapsed());
        drop(other);
        assert_eq!(look(&device.database()).unwrap(), 2, "{mode}");
    }
}

#[test]
fn a_wait_without_an_end_is_no_panic() {
    look_for(&device(2), Duration::MAX);
}

fn look_for(device: &Device, busy_timeout: Duration) {
    assert_eq!(Inspector::open(device.database(), busy_timeout).unwrap().figures().unwrap().pending, 2);
}

#[test]
fn a_path_of_any_characters_is_taken_as_it_is() {
    let device = Device::new();
    for name in ["what?mode=memory", "100%25.db", "a#b c&d.db", "file:x.db", "größe.db"] {
        let path = device.folder().join(name);
        drop(edge_outbox::Outbox::builder(device.database()).open().unwrap());
        fs::copy(device.database(), &path).unwrap();
        let wal = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
        fs::copy(wal(&device.database()), wal(&path)).unwrap();
        let inspector = Inspector::open(&path, SHORT).unwrap();
        assert_eq!(inspector.path(), path);
        assert!(format!("{inspector:?}").contains(name.split('ß').next().unwrap()), "{inspector:?}");
        inspector.figures().unwrap();
    }
}

#[test]
fn an_inspector_may_go_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&Inspector::open(device(1).database(), SHORT).unwrap());
}

#[test]
fn looking_at_a_database_that_nobody_has_open_leaves_nothing_beside_it() {
    let device = device(3);
    close_for_good(&device);
    age(&device);
    let before = files(&device);
    assert_eq!(look(&device.database()).unwrap(), 3);
    assert!(files(&device) == before);
}

#[test]
fn what_comes_to_a_database_that_nobody_had_open_is_seen_at_the_next_look() {
    let device = device(3);
    close_for_good(&device);
    age(&device);
    let inspector = Inspector::open(device.database(), SHORT).unwrap();
    assert_eq!(inspector.figures().unwrap().pending, 3);
    let outbox = device.open_writer();
    enqueue(&outbox, numbered("t", 0..2));
    assert_eq!(inspector.figures().unwrap().pending, 5, "in the log of a program that has it open");
    drop(outbox);
    enqueue(&device.open_writer(), numbered("t", 0..2));
    assert_eq!(inspector.figures().unwrap().pending, 7, "in the log of a program that came later");

    let device = self::device(3);
    close_for_good(&device);
    age(&device);
    let inspector = Inspector::open(device.database(), SHORT).unwrap();
    assert_eq!(inspector.figures().unwrap().pending, 3);
    device.sql().execute("INSERT INTO outbox (topic, payload) VALUES ('t', 'p')", []).unwrap();
    assert_eq!(inspector.figures().unwrap().pending, 4, "in the file, and everything closed again");
}

#[test]
fn another_database_in_its_place_is_seen_at_the_next_look() {
    let device = device(3);
    let inspector = Inspector::open(device.database(), SHORT).unwrap();
    assert_eq!(inspector.figures().unwrap().pending, 3);
    for suffix in ["", "-wal", "-shm"] {
        fs::rename(beside(&device, suffix), device.folder().join(format!("moved{suffix}"))).unwrap();
    }
    assert!(matches!(inspector.figures(), Err(Error::Missing { .. })));
    enqueue(&device.open_writer(), numbered("t", 0..7));
    assert_eq!(inspector.figures().unwrap().pending, 7);
}

#[test]
fn who_may_only_read_can_look_while_a_program_has_it_open() {
    let device = device(3);
    let outbox = device.open_writer();
    enqueue(&outbox, numbered("t", 0..2));
    let Some(said) = nobody_sees(&device) else { return };
    assert_eq!(said, "pending: 5");
    // And goes on seeing what is new, while the log is moved and begun anew.
    let mut child = Child::play_as_nobody("inspector::looks", &device.database()).unwrap();
    let sql = device.sql();
    for pending in 6..12 {
        enqueue(&outbox, numbered("t", 0..1));
        assert_eq!(child.ask("look"), format!("pending: {pending}"));
        value::<i64>(&sql, "PRAGMA wal_checkpoint(RESTART)", []);
    }
    child.end();
}

#[test]
fn who_may_only_read_can_look_at_what_a_program_left() {
    // With the log that an outbox leaves, and with none.
    let device = device(3);
    if let Some(said) = nobody_sees(&device) {
        assert_eq!(said, "pending: 3");
    }
    close_for_good(&device);
    age(&device);
    if let Some(said) = nobody_sees(&device) {
        assert_eq!(said, "pending: 3");
    }
}

#[test]
fn who_is_not_the_owner_makes_no_file_that_the_owner_could_not_write() {
    let device = device(3);
    fs::remove_file(beside(&device, "-shm")).unwrap();
    fs::set_permissions(device.folder(), Permissions::from_mode(0o777)).unwrap();
    let Some(said) = nobody_sees(&device) else { return };
    assert!(said.contains("device.db") && said.contains("-shm") && said.contains("as the owner"), "{said}");
    // Just written, so that it cannot be read without locks.
    close_for_good(&device);
    let said = nobody_sees(&device).unwrap();
    assert!(said == "pending: 3" || said.contains("try again"), "{said}");
}

#[test]
fn what_root_makes_to_look_is_the_owners() {
    let device = device(3);
    fs::remove_file(beside(&device, "-shm")).unwrap();
    for path in [device.folder().to_owned(), device.database(), beside(&device, "-wal")] {
        if let Err(error) = chown(path, Some(NOBODY), Some(NOBODY)) {
            return skipped("the owner of what root makes", &format!("no other owner: {error}"));
        }
    }
    assert_eq!(look(&device.database()).unwrap(), 3);
    let made = fs::metadata(beside(&device, "-shm")).unwrap();
    assert_eq!((made.uid(), made.gid()), (NOBODY, NOBODY));
    assert_eq!(nobody_sees(&device).unwrap(), "pending: 3");
}

#[test]
fn what_may_not_be_read_is_named() {
    for hidden in ["", "-wal", "-shm"] {
        let device = device(3);
        fs::set_permissions(beside(&device, hidden), Permissions::from_mode(0o600)).unwrap();
        let Some(said) = nobody_sees(&device) else { return };
        assert!(said.contains(&format!("you may not read {}", beside(&device, hidden).display())), "{hidden}: {said}");
        assert!(said.contains("as its owner"), "{said}");
    }
    let device = device(3);
    allow(&device, 0o700, 0o644);
    let said = nobody_sees(&device).unwrap();
    assert!(said.contains("device.db") && said.contains("folder") && said.contains("as its owner"), "{said}");
}

#[test]
fn a_transaction_that_was_cut_short_in_rollback_mode_is_told_and_not_taken_back() {
    let device = device(200);
    close_for_good(&device);
    let cut = Device::new();
    let other = device.sql();
    other
        .execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 2; BEGIN;
             UPDATE outbox SET payload = zeroblob(3000)",
        )
        .unwrap();
    // As the next one finds it when the program is killed in the middle of what it writes.
    for suffix in ["", "-journal"] {
        fs::copy(beside(&device, suffix), beside(&cut, suffix)).unwrap();
    }
    let error = refused(&cut);
    assert!(matches!(error, Error::NotReadable { .. }), "{error:?}");
    assert!(error.to_string().contains("-journal") && error.to_string().contains("open it once"), "{error}");
    drop(cut.open_writer());
    assert_eq!(look(&cut.database()).unwrap(), 200);
}

/// Whether any process has one of SQLite's locks on the database's own file.
fn is_locked(device: &Device) -> bool {
    let file = format!(":{} ", fs::metadata(device.database()).unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|lock| lock.contains("POSIX") && lock.contains(&file))
}

#[test]
fn looking_takes_no_lock_away_from_an_outbox_in_the_same_process() {
    let device = device(3);
    close_for_good(&device);
    age(&device);
    let before = Inspector::open(device.database(), SHORT).unwrap();
    assert_eq!(before.figures().unwrap().pending, 3);
    assert!(files(&device).into_keys().eq(["device.db"]), "it was read without locks");
    let outbox = device.open_writer();
    enqueue(&outbox, numbered("t", 0..2));
    if !is_locked(&device) {
        return skipped("locks of one process", "/proc/locks does not show them here");
    }
    // This closes what was read without locks, and opens it anew.
    assert_eq!(before.figures().unwrap().pending, 5);
    assert_eq!(look(&device.database()).unwrap(), 5);
    before.files().unwrap();
    drop(before);
    assert!(is_locked(&device), "a file was closed behind SQLite's back");
    drop(outbox);
}
