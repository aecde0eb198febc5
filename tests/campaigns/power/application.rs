//! A database that was an application's before there was an outbox in it.

use std::path::Path;

use edge_outbox::rusqlite::config::DbConfig;
use edge_outbox::rusqlite::{self, Connection};

use crate::chance::Chance;

const ROWS: i64 = 60;

/// Makes it: with pages of some size, with a rollback journal or, `logged` for certain, with a log; what is in that may
/// not be in the database yet.
pub fn make(database: &Path, logged: bool, chance: &mut Chance) -> rusqlite::Result<()> {
    let connection = Connection::open(database)?;
    let pages = chance.pick(&[1024, 4096]);
    connection.execute_batch(&format!("PRAGMA page_size = {pages}"))?;
    if logged || chance.one_in(2) {
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, chance.one_in(2))?;
    }
    connection.execute_batch("CREATE TABLE app (id INTEGER PRIMARY KEY, words TEXT NOT NULL)")?;
    for id in 1..=ROWS {
        connection.execute("INSERT INTO app (id, words) VALUES (?1, ?2)", (id, words(id)))?;
    }
    Ok(())
}

/// Nobody changed it: it has to be there, whole.
pub fn what_is_wrong(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare("SELECT id, words FROM app ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows = rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
    let whole = rows.len() == ROWS as usize && rows.iter().zip(1..).all(|(row, id)| *row == (id, words(id)));
    Ok((!whole).then(|| format!("the application's own table has {} rows, or others than it had", rows.len())))
}

fn words(id: i64) -> String {
    format!("row {id} of the application").repeat(4)
}
