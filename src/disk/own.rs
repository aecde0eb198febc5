//! Files of ours beside the database: for the same people as the database, whoever makes them, as SQLite makes `-wal` and
//! `-shm`. Else one command of root's would leave files that the application cannot open.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::Path;

use rustix::fs::OFlags;

/// Somebody may make the file, or remove it, between two looks.
const TRIES: usize = 5;

/// For whom a database is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Audience {
    mode: u32,
    user: u32,
    group: u32,
}

impl Audience {
    /// # Errors
    /// Where the database cannot be looked at.
    pub fn of(database: &Path) -> io::Result<Self> {
        fs::metadata(database).map(|found| Audience {
            mode: found.mode() & 0o666,
            user: found.uid(),
            group: found.gid(),
        })
    }

    /// Who may read and write: whoever may write the database. Who may open the lock can take it, and keep everybody from
    /// forwarding.
    pub fn mode(self) -> u32 {
        let may_write = self.mode & 0o222;
        may_write | may_write << 1
    }

    /// Who may ask at a socket: whoever may read the database. Asking takes the right to write to the socket.
    pub fn mode_of_socket(self) -> u32 {
        let may_read = self.mode & 0o444;
        may_read | may_read >> 1
    }

    /// What the umask took is given back first: after that the file may be another's. File systems without owners and
    /// modes have one for all files, and only root gives files away: where it does not go the file stays as it is.
    fn given(self, file: &File) {
        let _ = file.set_permissions(Permissions::from_mode(self.mode()));
        let _ = fchown(file, Some(self.user), Some(self.group));
    }

    /// The same for a file that only a name stands for, which follows no link: one of an open folder under /proc.
    pub fn given_socket(self, name: &Path) {
        let _ = fs::set_permissions(name, Permissions::from_mode(self.mode_of_socket()));
        let _ = chown(name, Some(self.user), Some(self.group));
    }
}

/// Opens a file of ours to append to, and makes it if there is none. One that is there stays whose it is. Links are not
/// followed: others may write to the folder, and this may be root.
///
/// # Errors
/// What the file system answers.
pub(crate) fn open_own(database: &Path, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    let mut tries = 0;
    loop {
        tries += 1;
        match options.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && tries <= TRIES => {}
            opened => return opened,
        }
        let audience = Audience::of(database).ok();
        let mode = audience.map_or(0o666, Audience::mode);
        match options.clone().create_new(true).mode(mode).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries <= TRIES => {}
            made => {
                if let (Ok(file), Some(audience)) = (&made, audience) {
                    audience.given(file);
                }
                return made;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_made_is_for_those_whom_the_database_is_for_and_what_stands_stays() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (database, own) = (folder.path().join("a.db"), folder.path().join("a.db-outbox-lock"));
        fs::write(&database, "")?;
        let mode = |path: &Path| fs::metadata(path).map(|found| found.mode() & 0o777);
        let wanted = [(0o660, 0o660), (0o606, 0o606), (0o600, 0o600), (0o666, 0o666), (0o644, 0o600), (0o664, 0o660)];
        for (of_database, wanted) in wanted {
            fs::set_permissions(&database, Permissions::from_mode(of_database))?;
            open_own(&database, &own)?;
            assert_eq!(mode(&own)?, wanted, "{wanted:o}");
            fs::remove_file(&own)?;
        }
        fs::write(&own, "ours")?;
        fs::set_permissions(&own, Permissions::from_mode(0o640))?;
        open_own(&database, &own)?;
        assert_eq!((mode(&own)?, fs::read_to_string(&own)?), (0o640, "ours".to_owned()));
        Ok(())
    }

    #[test]
    fn links_lead_nowhere() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (database, own) = (folder.path().join("a.db"), folder.path().join("a.db-outbox-lock"));
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&database, "")?;
        symlink(&elsewhere, &own)?;
        assert!(open_own(&database, &own).is_err() && !elsewhere.exists());
        fs::write(&elsewhere, "")?;
        assert!(open_own(&database, &own).is_err());
        Ok(())
    }

    #[test]
    fn whoever_may_read_the_database_may_ask() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let database = folder.path().join("a.db");
        fs::write(&database, "")?;
        for (mode, of_socket) in [(0o600, 0o600), (0o640, 0o660), (0o644, 0o666), (0o660, 0o660)] {
            fs::set_permissions(&database, Permissions::from_mode(mode))?;
            assert_eq!(Audience::of(&database)?.mode_of_socket(), of_socket, "{mode:o}");
        }
        Ok(())
    }
}
