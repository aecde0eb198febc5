//! Looking at everything for what is wrong, from a connection that need not write.
//!
//! Rows are read in bites, each a read transaction of its own, so that nobody's checkpoint waits for long. Where the file
//! is damaged reading goes on as [`salvage`](super::salvage) has it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, named_params};

use super::Content;
use super::admin::{self, Status};
use super::aside::{Aside, miscounted};
use super::damage::{first_readable, is_damaged, newest_readable, of_a_row};
use super::decode::{self, AFTER_CONTENT, AFTER_ROW, content_columns, row_columns};
use super::read::limit;
use super::restore::{Misfit, misfits};
use super::salvage::{End, Range, walk};
use super::schema::{self, MIGRATIONS};
use crate::Error;

/// Most rows, and about most bytes, that are read in one transaction.
const BITE: usize = 512;
const BITE_BYTES: usize = 1024 * 1024;

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The outbox is of an older version than this program's.
    Older {
        found: usize,
        known: usize,
    },
    Schema(Misfit),
    /// What SQLite says of the file, and how often it says so.
    Integrity {
        said: String,
        times: u64,
    },
    /// How many rows `outbox_state` has in the place of one.
    State {
        rows: i64,
    },
    /// The position is nothing that a position can be.
    Position,
    /// The position lies behind the newest row.
    Ahead {
        position: i64,
        newest: i64,
    },
    /// The counters of rows that are set aside are not what the indexes hold: so many rows, of so many bytes.
    Aside {
        rows: i64,
        bytes: i64,
    },
    /// What stands between these ids cannot be read.
    Unreadable {
        first: i64,
        last: i64,
    },
    /// Rows behind that one, as many as there may be, cannot be read.
    End {
        last: i64,
    },
    /// Its front can be read and its content cannot.
    Broken {
        id: i64,
    },
    /// So many rows behind that one do not stand in the order of their ids.
    Misplaced {
        after: i64,
        rows: usize,
    },
    /// Nothing that could be sent, and why; `None`: its status is none of the words.
    Spoiled {
        id: i64,
        status: Option<Status>,
        why: String,
    },
    /// To be sent, but where no forwarder looks any more.
    Stranded {
        id: i64,
    },
}

/// What was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Looked {
    pub rows: u64,
    /// Of them, those parked as FAILED, sound or not.
    pub failed: u64,
    /// Why SQLite did not look at the application's own tables.
    pub application: Option<String>,
}

macro_rules! columns {
    () => {
        concat!(
            "SELECT ",
            row_columns!(),
            ", ",
            content_columns!(),
            ", status IS NOT 'SENT' AND status IS NOT 'FAILED' AND held_by IS NULL AND (attempts > 0) IS NOT TRUE
              FROM main.outbox NOT INDEXED "
        )
    };
}

const NEXT: &str = concat!(columns!(), "WHERE id >= :after + 1 ORDER BY id LIMIT :rows");

/// As [`salvage`](super::salvage) finds one.
const ONE: &str = concat!(columns!(), "WHERE id BETWEEN :from AND :to AND +id = :id LIMIT 1 OFFSET :nth");

/// Looks at everything, and tells each fault as it is found. A payload above `max_payload` is not read.
///
/// # Errors
/// Those that are no damage.
pub(crate) fn check(
    conn: &Connection,
    path: &Path,
    max_payload: usize,
    tell: &mut dyn FnMut(Fault),
) -> Result<Looked, Error> {
    let version = schema::version(conn, path)?;
    if version < MIGRATIONS.len() {
        tell(Fault::Older { found: version, known: MIGRATIONS.len() });
    }
    for misfit in misfits(conn, version)? {
        tell(Fault::Schema(misfit));
    }
    let application = integrity(conn, tell)?;
    let position = state(conn, tell)?;
    if let Some(Aside { rows, bytes }) = miscounted(conn)? {
        tell(Fault::Aside { rows, bytes });
    }
    let newest = newest_readable(conn)?;
    let looked = Looked { application, ..Looked::default() };
    let mut rows = Rows { conn, position, newest, max_payload, last: 0, looked, tell: &mut *tell };
    loop {
        rows.in_order()?;
        if !rows.over_damage()? {
            break;
        }
    }
    let looked = rows.looked;
    if is_damaged(&admin::newest(conn)) {
        tell(Fault::End { last: newest });
    }
    Ok(looked)
}

/// Asks SQLite about the file; where it cannot tell of the application's tables, about ours, and why. Of CHECKs it knows
/// nothing on a connection that cannot write, but rows are looked at one by one anyway.
fn integrity(conn: &Connection, tell: &mut dyn FnMut(Fault)) -> Result<Option<String>, Error> {
    match ask(conn, "PRAGMA main.integrity_check(100)", tell) {
        // A collation or a function of the application's, most likely.
        Err(Error::Sqlite(error)) => {
            ask(conn, "PRAGMA main.integrity_check('outbox')", tell)?;
            ask(conn, "PRAGMA main.integrity_check('outbox_state')", tell)?;
            Ok(Some(error.to_string()))
        }
        asked => asked.map(|()| None),
    }
}

fn ask(conn: &Connection, pragma: &str, tell: &mut dyn FnMut(Fault)) -> Result<(), Error> {
    let mut heard: Vec<(String, u64)> = Vec::new();
    let mut hear = |said: &str| match heard.iter_mut().find(|(before, _)| before == said) {
        Some((_, times)) => *times += 1,
        None => heard.push((said.to_owned(), 1)),
    };
    let asked = (|| {
        let mut statement = conn.prepare(pragma)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let said = decode::lossy(row, 0).unwrap_or_default();
            said.lines().filter(|line| *line != "ok" && !line.starts_with("***")).for_each(&mut hear);
        }
        Ok(())
    })();
    match asked.map_err(of_a_row) {
        Err(Error::Damaged(error)) => hear(&error.to_string()),
        asked => asked?,
    }
    heard.into_iter().for_each(|(said, times)| tell(Fault::Integrity { said, times }));
    Ok(())
}

/// Up to where rows count as dealt with; 0 where that cannot be told.
fn state(conn: &Connection, tell: &mut dyn FnMut(Fault)) -> Result<i64, Error> {
    let rows: i64 = conn.query_row("SELECT count(*) FROM main.outbox_state", [], |row| row.get(0))?;
    if rows != 1 {
        tell(Fault::State { rows });
    }
    let asked =
        "SELECT position FROM main.outbox_state WHERE id = 1 AND typeof(position) = 'integer' AND position >= 0";
    // Before the newest row, which may become newer meanwhile.
    let position: Option<i64> = conn.query_row(asked, [], |row| row.get(0)).optional()?;
    let newest = admin::newest(conn);
    match (position, newest) {
        (None, _) => tell(Fault::Position),
        (Some(position), Ok(newest)) if position > newest => tell(Fault::Ahead { position, newest }),
        (Some(position), Ok(_) | Err(Error::Damaged(_))) => return Ok(position),
        (_, Err(error)) => return Err(error),
    }
    Ok(0)
}

struct Rows<'a> {
    conn: &'a Connection,
    position: i64,
    /// Rows that came after the beginning are not looked at, so that there is an end.
    newest: i64,
    max_payload: usize,
    /// Everything up to here was looked at.
    last: i64,
    looked: Looked,
    tell: &'a mut dyn FnMut(Fault),
}

/// A row that was read.
struct Seen {
    id: i64,
    status: Option<Status>,
    spoiled: Option<String>,
    /// Whether it says that nobody has dealt with it.
    fresh: bool,
}

impl Rows<'_> {
    /// Looks at rows until there are no more, or something is damaged.
    fn in_order(&mut self) -> Result<(), Error> {
        while self.last < self.newest {
            let Some((mut seen, ended)) = self.next()? else { return Ok(()) };
            if !ended {
                // A damaged id shows by the row behind it.
                seen.pop();
            }
            for row in seen {
                self.judge(row);
            }
            if ended {
                self.last = self.newest;
            }
        }
        Ok(())
    }

    /// The next rows, if they can be read and stand in order; and whether there are no more.
    fn next(&self) -> Result<Option<(Vec<Seen>, bool)>, Error> {
        let mut statement = self.conn.prepare_cached(NEXT)?;
        let max_payload = limit(self.max_payload);
        let params = named_params! { ":after": self.last, ":rows": limit(BITE), ":max_payload": max_payload };
        let (mut seen, mut bytes, mut last): (Vec<Seen>, usize, _) = (Vec::new(), 0, self.last);
        let mut rows = statement.query(params)?;
        while seen.len() < BITE && (bytes < BITE_BYTES || seen.len() < 2) {
            let row = match rows.next().map_err(of_a_row) {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(Some((seen, true))),
                Err(Error::Damaged(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
            let (row, size) = self.read(row);
            if row.id <= last {
                return Ok(None);
            }
            (last, bytes) = (row.id, bytes.saturating_add(size));
            seen.push(row);
        }
        Ok(Some((seen, false)))
    }

    /// Looks at the next rows one by one and passes over what cannot be read. Whether there is more.
    fn over_damage(&mut self) -> Result<bool, Error> {
        if self.last >= self.newest {
            return Ok(false);
        }
        let walk = walk(self.conn, self.last)?;
        if walk.misplaced > 0 {
            (self.tell)(Fault::Misplaced { after: self.last, rows: walk.misplaced });
        }
        let empty = walk.ids.is_empty();
        for place in walk.ids {
            self.one(walk.range, place)?;
        }
        match walk.end {
            End::Table => return Ok(false),
            End::Window if !empty => return Ok(true),
            End::Window | End::Damage => {}
        }
        let first = self.last.saturating_add(1);
        let next = first_readable(self.conn, self.last, self.newest)?;
        let last = next.map_or(self.newest, |next| next - 1);
        if first <= last {
            (self.tell)(Fault::Unreadable { first, last });
        }
        let Some(next) = next else { return Ok(false) };
        self.one(Range { from: next, to: next }, (next, 0))?;
        Ok(true)
    }

    fn one(&mut self, Range { from, to }: Range, (id, nth): (i64, usize)) -> Result<(), Error> {
        let mut statement = self.conn.prepare_cached(ONE)?;
        let max_payload = limit(self.max_payload);
        let params =
            named_params! { ":from": from, ":to": to, ":id": id, ":nth": limit(nth), ":max_payload": max_payload };
        let found = statement.query_row(params, |row| Ok(self.read(row).0)).optional().map_err(of_a_row);
        drop(statement);
        match found {
            Ok(Some(row)) => self.judge(row),
            Ok(None) => {} // purged meanwhile
            Err(Error::Damaged(_)) => {
                self.looked.rows += 1;
                (self.tell)(Fault::Broken { id });
            }
            Err(error) => return Err(error),
        }
        self.last = id;
        Ok(())
    }

    fn read(&self, found: &rusqlite::Row<'_>) -> (Seen, usize) {
        let row = decode::row(found);
        let seen = Seen {
            id: row.id,
            status: Status::of(decode::lossy(found, AFTER_ROW).as_deref()),
            spoiled: match decode::content(found, self.max_payload) {
                Content::Message { .. } => None,
                Content::Spoiled(why) => Some(why),
            },
            fresh: decode::integer(found, AFTER_CONTENT) == 1,
        };
        (seen, row.size)
    }

    fn judge(&mut self, Seen { id, status, spoiled, fresh }: Seen) {
        self.last = id;
        self.looked.rows += 1;
        self.looked.failed += u64::from(status == Some(Status::Failed));
        match spoiled {
            Some(why) => (self.tell)(Fault::Spoiled { id, status, why }),
            None if fresh && id <= self.position => (self.tell)(Fault::Stranded { id }),
            None => {}
        }
    }
}
