//! What must hold of the files that a cut left: the oracles of `audit.rs`, as far as a power cut leaves them.
//!
//! Ids are given in the order of the commits, and none is left out. So what stands in `biz` has to be the rows 1 to n
//! as they were committed, and n is at least the highest of which it was promised: what a synced connection was told to
//! be committed, and what the broker got.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use edge_outbox::rusqlite::config::DbConfig;
use edge_outbox::rusqlite::{self, Connection, OpenFlags};

use super::application;
use super::story::{LIVES, WRITERS};
use super::told::Told;
use crate::audit;
use crate::workload::Reading;

/// What was found in order.
#[derive(Default)]
pub struct Found {
    pub rows: Vec<Reading>,
    /// Commits that the application was told of and that are gone.
    pub lost: i64,
}

/// A row of the outbox.
struct Row {
    status: String,
    payload: Vec<u8>,
}

/// By SQLite alone, which brings what it finds into order first.
pub fn judge(database: &Path, told: &Told) -> Result<Found, Vec<String>> {
    if !database.exists() {
        return stands(Vec::new(), told);
    }
    let read = || -> rusqlite::Result<_> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(database, flags)?;
        // What is in the log stays there, for nobody needs this file any more.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let mut check = connection.prepare("PRAGMA integrity_check")?;
        let words = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        let application = if told.of_application { application::what_is_wrong(&connection)? } else { None };
        Ok((words, application, readings(&connection)?, outbox(&connection)?))
    };
    let (words, application, rows, outbox) = read().map_err(|error| vec![format!("SQLite: {error}")])?;
    let mut broken: Vec<String> = application.into_iter().collect();
    broken.extend(words.into_iter().filter(|word| word != "ok").map(|word| format!("integrity_check: {word}")));
    broken.extend(atomic(&rows, &outbox, told));
    match stands(rows, told) {
        Ok(found) if broken.is_empty() => Ok(found),
        Ok(_) => Err(broken),
        Err(more) => Err(more.into_iter().chain(broken).collect()),
    }
}

fn there_is(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?1")?.exists([table])
}

fn readings(connection: &Connection) -> rusqlite::Result<Vec<Reading>> {
    if !there_is(connection, "biz")? {
        return Ok(Vec::new());
    }
    Ok(audit::readings(connection)?.into_iter().collect())
}

fn outbox(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    if !there_is(connection, "outbox")? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT status, payload FROM outbox WHERE payload <> '' ORDER BY id")?;
    let row = |row: &rusqlite::Row<'_>| {
        let payload = row.get_ref(1)?.as_bytes().map(<[u8]>::to_vec).unwrap_or_default();
        Ok(Row { status: row.get(0)?, payload })
    };
    statement.query_map([], row)?.collect()
}

/// 1: the rows are the first n commits, and no fewer than have to be there.
fn stands(rows: Vec<Reading>, told: &Told) -> Result<Found, Vec<String>> {
    let mut broken = Vec::new();
    let mut newest = BTreeMap::new();
    for (row, id) in rows.iter().zip(1..) {
        if row.id != id {
            broken.push(format!("biz has {row:?} in the place of row {id}"));
            break;
        }
        if told.committed.get(&id).is_some_and(|committed| committed != row) {
            broken.push(format!("biz has {row:?}, and {:?} was committed", told.committed[&id]));
        }
        let before = newest.insert(row.k, row.seq).unwrap_or(0);
        if row.seq != before + 1 {
            broken.push(format!("biz has {row:?} after seq {before} of its key"));
        }
    }
    let last = rows.len() as i64;
    if last < told.floor {
        let (what, lost) = (if told.got.iter().any(|got| got.id > last) { "sent" } else { "told" }, told.floor - last);
        broken.push(format!("lost: biz ends with row {last}, and {} was {what}: {lost} too few", told.floor));
    }
    // 1 the other way round: what was rolled back would be among what nobody was told of.
    let untold = rows.iter().filter(|row| !told.committed.contains_key(&row.id)).count();
    if untold > WRITERS * LIVES {
        broken.push(format!("invented: nobody was told of {untold} rows in biz"));
    }
    let said = told.committed.last_key_value().map_or(0, |(id, _)| *id);
    if broken.is_empty() { Ok(Found { lost: (said - last).max(0), rows }) } else { Err(broken) }
}

/// 2, 3 and 5: every message has its row, and is as it was written; every row has its message, or the broker has it. And what stands as sent was.
fn atomic(rows: &[Reading], outbox: &[Row], told: &Told) -> Vec<String> {
    let mut broken = Vec::new();
    let mut with_message = HashSet::new();
    for Row { status, payload } in outbox {
        let Some(reading) = Reading::of(payload) else {
            broken.push(format!("a payload is damaged: {:?}", String::from_utf8_lossy(payload)));
            continue;
        };
        with_message.insert(reading);
        if rows.binary_search(&reading).is_err() {
            broken.push(format!("ghost: the outbox has {reading:?}, and biz does not"));
        }
        if status != "PENDING" && !(status == "SENT" && told.once.contains(&reading)) {
            broken.push(format!("{reading:?} stands as {status}, and the broker did not have it"));
        }
    }
    let mute = rows.iter().filter(|row| !with_message.contains(row) && !told.once.contains(row));
    broken.extend(mute.map(|row| format!("{row:?} is in biz, and has no message")));
    broken
}
