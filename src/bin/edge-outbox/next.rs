//! What to do about an error, where its own words do not say so: for somebody in a shell on the device.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use edge_outbox::{Error, Limit};
use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
use rustix::process::geteuid;

use crate::output::path;

pub fn step(database: &Path, error: &Error) -> Option<String> {
    let file = path(database);
    let folder = path(folder(database));
    match error {
        _ if database.is_dir() => Some(format!("Name the file in it: ls -l {file}")),
        Error::Missing { .. } | Error::CannotOpen { .. } if !self::folder(database).is_dir() => Some(format!(
            "There is no folder {folder}. If the path is right: mkdir -p {folder}; edge-outbox init {file}"
        )),
        Error::Missing { .. } => Some(format!("If the path is right: edge-outbox init {file}")),
        Error::LogAlone { path } => Some(format!(
            "If nobody needs what was committed there, and to begin anew: rm {}; edge-outbox init {file}",
            path.display()
        )),
        Error::NoOutbox { .. } => Some(format!(
            "If it was moved here: its -wal, if it had one, belongs to it. If it is the right one: edge-outbox init {file}"
        )),
        Error::NotADatabase { .. } => Some(format!(
            "Is the path right? If it was the outbox: stop all programs that use it, keep a copy with its -wal and -shm, then: \
             sqlite3 {file} .recover | sqlite3 NEW.db (docs/reliability.md, \"The database is damaged\", has the rest)"
        )),
        Error::Damaged(_) => Some(format!(
            "How: docs/reliability.md, \"The database is damaged\". Which rows, if that can be told: edge-outbox check {file}"
        )),
        Error::Busy(_) => {
            Some(format!("Who has it: fuser -v {file}, or lsof {file}. To wait longer: --busy-timeout 1min"))
        }
        Error::Pool(_) => Some("To wait longer: --busy-timeout 1min".to_owned()),
        Error::ReadOnly { .. } | Error::Disk(_) if is_mounted_read_only(database) => Some(format!(
            "Its file system is mounted read-only, as a card is after an error: dmesg | tail. Where it is: findmnt -T {folder}. \
             Once the cause is gone: mount -o remount,rw and what findmnt shows as TARGET"
        )),
        Error::NotReadable { .. } if is_mounted_read_only(database) => None, // it says what to do there
        Error::ReadOnly { .. } | Error::NotReadable { .. } => Some(permission(database)),
        Error::CannotOpen { .. } if access(database, Access::READ_OK).is_err() => Some(permission(database)),
        Error::Full(full) => Some(match full.limit {
            Limit::PendingMessages | Limit::PendingBytes => format!("Is it forwarded? edge-outbox status {file}"),
            _ => format!("What takes the space: df -h {folder}. Whether messages leave: edge-outbox status {file}"),
        }),
        Error::MaybeCommitted(_) => {
            Some(format!("To look: edge-outbox list {file} --newest. The disk: df -h {folder}; dmesg | tail"))
        }
        Error::DiskFull(_) => Some(format!("What takes the space: df -h {folder}; du -xh {folder} | sort -h | tail")),
        _ => None,
    }
}

/// Whose it is, since that user may what this one may not.
fn permission(database: &Path) -> String {
    let (file, folder) = (path(database), path(folder(database)));
    let look = format!("Who may do what: ls -ld {folder} {file}*");
    match fs::metadata(database).map(|file| file.uid()) {
        Ok(owner) if owner != geteuid().as_raw() => {
            format!("It belongs to user {owner}, who may: sudo -u '#{owner}' edge-outbox …. {look}")
        }
        _ => look,
    }
}

fn is_mounted_read_only(database: &Path) -> bool {
    statvfs(folder(database)).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// The folder that it stands in.
fn folder(database: &Path) -> &Path {
    match database.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
