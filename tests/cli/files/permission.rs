//! A user who may not do everything with the database.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::{Case, Creates, Does, Forwards, Looks, Writes, commands, fill, names};
use crate::device::{Device, enqueue, numbered};

const CHANGING: [Does; 3] = [Creates, Writes, Forwards];
/// "nobody" on every Linux.
const NOBODY: u32 = 65534;

/// A device whose files somebody else looks after: root's for nobody, or for an ordinary user his own, write-protected.
struct Stranger {
    device: Device,
    /// The tool where nobody can reach it.
    tool: PathBuf,
    is_root: bool,
    _folder: TempDir,
}

impl Stranger {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        set(folder.path(), 0o755);
        let (database, tool) = (folder.path().join("database"), folder.path().join("edge-outbox"));
        fs::create_dir(&database).unwrap();
        let built = env!("CARGO_BIN_EXE_edge-outbox");
        fs::hard_link(built, &tool).or_else(|_| fs::copy(built, &tool).map(drop)).unwrap();
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let device = Device::at(&database);
        fill(&device);
        // As the last user of it leaves it.
        for name in names(&database) {
            if name != "device.db" {
                fs::remove_file(database.join(name)).unwrap();
            }
        }
        // Long ago: what is just being written is not looked at without a log.
        let hour = Duration::from_secs(3600);
        File::options().write(true).open(device.database()).unwrap().set_modified(SystemTime::now() - hour).unwrap();
        Stranger { device, tool, is_root, _folder: folder }
    }

    /// From now on.
    fn protect(&self, file: u32, folder: u32) {
        names(self.device.folder()).iter().for_each(|name| set(&self.device.folder().join(name), file));
        set(self.device.folder(), folder);
    }

    /// Those of the commands, as that user runs them.
    fn commands(&self, does: &[Does]) -> Vec<Case> {
        let mut cases = commands(&self.device.database(), does);
        for case in &mut cases {
            let mut command = Command::new(&self.tool);
            command.args(case.command.get_args());
            if self.is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            case.command = command;
        }
        cases
    }

    /// Each of those says these words, and whose the file is.
    #[track_caller]
    fn refused(&self, does: &[Does], words: &str) {
        let standing = names(self.device.folder());
        let bytes = fs::read(self.device.database()).ok();
        let whose: &[_] = if self.is_root { &["belongs to user 0", "sudo -u '#0'"] } else { &[] };
        for mut case in self.commands(does) {
            case.refused(&self.device.database(), &[&[words, "ls -ld"], whose].concat());
            assert_eq!(names(self.device.folder()), standing, "{}", case.line);
        }
        assert!(fs::read(self.device.database()).ok() == bytes, "the file is another");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        set(self.device.folder(), 0o755); // so that it can be deleted
    }
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn who_may_only_read_may_look_and_is_told_whose_it_is() {
    let stranger = Stranger::new();
    stranger.protect(0o444, 0o555);
    stranger.refused(&CHANGING, "cannot be written to: the file and the folder around it must be writable");
    stranger.commands(&[Looks]).iter_mut().for_each(Case::goes_well);
    assert_eq!(names(stranger.device.folder()), ["device.db"]);
}

#[test]
fn who_may_only_read_may_look_while_another_program_has_it_open() {
    let stranger = Stranger::new();
    let open = stranger.device.open_writer();
    enqueue(&open, numbered("t", 0..1));
    stranger.protect(0o444, 0o555);
    for mut case in stranger.commands(&CHANGING) {
        case.refused(&stranger.device.database(), &["cannot be written to", "ls -ld"]);
    }
    stranger.commands(&[Looks]).iter_mut().for_each(Case::goes_well);
    drop(open);
}

#[test]
fn who_may_write_the_file_and_not_its_folder_may_look() {
    let stranger = Stranger::new();
    stranger.protect(0o666, 0o555);
    stranger.refused(&CHANGING, "cannot be written to: the file and the folder around it must be writable");
    stranger.commands(&[Looks]).iter_mut().for_each(Case::goes_well);
    assert_eq!(names(stranger.device.folder()), ["device.db"]);
}

#[test]
fn who_may_not_even_read_is_told_whose_it_is() {
    let stranger = Stranger::new();
    stranger.protect(0o000, 0o755);
    stranger.refused(&CHANGING, "cannot be opened");
    stranger.refused(&[Looks], "cannot be looked at: you may not read");
}
