//! One row of any values, read as the forwarder reads it; and a message, written and read again.

use std::cell::{OnceCell, RefCell};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, named_params, params_from_iter};

use super::decode::{self, content_columns, row_columns};
use super::read::limit;
use super::{Budget, Content, Row, enqueue};
use crate::Message;

/// The columns that are read, each with a value in SQL that is in order.
pub(crate) const COLUMNS: [(&str, &str); 18] = [
    ("id", "1"),
    ("topic", "'weather/roof'"),
    ("payload", "'21.5'"),
    ("headers", "NULL"),
    ("key", "NULL"),
    ("status", "'PENDING'"),
    ("attempts", "0"),
    ("wait_ms", "0"),
    ("synced", "1"),
    ("created_at", "1700000000000"),
    ("nonce", "42"),
    ("checksum", "NULL"),
    ("qos", "1"),
    ("retain", "0"),
    ("expires_at", "NULL"),
    ("content_type", "NULL"),
    ("response_topic", "NULL"),
    ("correlation_data", "NULL"),
];

const INSERT: &str = "
    INSERT INTO any (id, topic, payload, headers, key, status, attempts, wait_ms, synced, created_at, nonce, checksum,
                     qos, retain, expires_at, content_type, response_topic, correlation_data)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
const READ_ANY: &str = concat!("SELECT ", row_columns!(), ", ", content_columns!(), " FROM any");
const READ: &str = concat!("SELECT ", row_columns!(), ", ", content_columns!(), " FROM main.outbox");

/// What SQLite keeps in a column: text need not be UTF-8.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(number) => Cell::Integer(number),
            ValueRef::Real(number) => Cell::Real(number),
            ValueRef::Text(bytes) => Cell::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Null => ValueRef::Null,
            Cell::Integer(number) => ValueRef::Integer(*number),
            Cell::Real(number) => ValueRef::Real(*number),
            Cell::Text(bytes) => ValueRef::Text(bytes),
            Cell::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

thread_local! {
    static DATABASE: RefCell<Option<Connection>> = const { RefCell::new(None) };
    static SOUND: OnceCell<Vec<Cell>> = const { OnceCell::new() };
}

/// A database in memory with the outbox, and a table beside it that has its columns and no rule.
fn database() -> rusqlite::Result<Connection> {
    let conn = Connection::open_in_memory()?;
    conn.execute_batch(include_str!("../../schema.sql"))?;
    let columns: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    conn.execute_batch(&format!("CREATE TABLE any ({})", columns.join(", ")))?;
    Ok(conn)
}

/// Runs `work` in a transaction of which nothing stays.
fn with_database<T>(work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    DATABASE.with_borrow_mut(|standing| {
        let conn = match standing {
            Some(conn) => conn,
            none => none.insert(database()?),
        };
        conn.execute_batch("BEGIN")?;
        let done = work(conn);
        conn.execute_batch("ROLLBACK")?;
        done
    })
}

fn read(conn: &Connection, sql: &str, max_payload: usize) -> rusqlite::Result<(Row, Content)> {
    conn.prepare_cached(sql)?.query_row(named_params! { ":max_payload": limit(max_payload) }, |found| {
        Ok((decode::row(found), decode::content(found, max_payload)))
    })
}

/// What is read where these values stand in the columns, in the order of [`COLUMNS`].
pub(crate) fn read_values(values: &[Cell], max_payload: usize) -> rusqlite::Result<(Row, Content)> {
    with_database(|conn| {
        conn.prepare_cached(INSERT)?.execute(params_from_iter(values))?;
        read(conn, READ_ANY, max_payload)
    })
}

/// What is read of a message that was enqueued.
pub(crate) fn write_and_read(message: &Message, max_payload: usize) -> rusqlite::Result<(Row, Content)> {
    with_database(|conn| {
        enqueue(conn, message, max_payload, &Budget::default()).expect("what could be sent can be enqueued");
        read(conn, READ, max_payload)
    })
}

/// The value of each column that is in order.
pub(crate) fn sound_values() -> Vec<Cell> {
    let read = || {
        let values: Vec<_> = COLUMNS.iter().map(|(_, value)| *value).collect();
        let cells = |row: &rusqlite::Row<'_>| (0..COLUMNS.len()).map(|nth| Ok(row.get_ref(nth)?.into())).collect();
        with_database(|conn| conn.query_row(&format!("SELECT {}", values.join(", ")), [], cells))
    };
    SOUND.with(|sound| sound.get_or_init(|| read().expect("constants")).clone())
}
