//! Whether our tables, indexes and triggers stand as `schema.sql` makes them, and putting back those that hold no data.

use std::path::Path;

use rusqlite::{Connection, Transaction};

use super::schema::{self, MIGRATIONS};
use super::{aside, decode};
use crate::Error;

/// What of the outbox is not as it should be in `sqlite_schema`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Misfit {
    pub kind: Kind,
    pub name: String,
    pub flaw: Flaw,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Table,
    Index,
    Trigger,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    Missing,
    /// It says something else than ours.
    Altered,
    /// Something else has its name.
    Foreign,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::Index => "index",
            Kind::Trigger => "trigger",
        }
    }

    fn of(word: &str) -> Option<Kind> {
        [Kind::Table, Kind::Index, Kind::Trigger].into_iter().find(|kind| kind.word() == word)
    }
}

/// One line of `sqlite_schema`.
struct Part {
    kind: Option<Kind>,
    name: String,
    table: String,
    sql: String,
}

/// What is not as the first `version` migrations make it, in their order.
pub(crate) fn misfits(conn: &Connection, version: usize) -> Result<Vec<Misfit>, Error> {
    let standing = parts(conn)?;
    let misfit = |part: Part| {
        let kind = part.kind?;
        let flaw = match standing.iter().find(|found| found.name.eq_ignore_ascii_case(&part.name)) {
            None => Flaw::Missing,
            Some(found) if found.kind != part.kind || !found.table.eq_ignore_ascii_case(&part.table) => Flaw::Foreign,
            Some(found) if essence(&found.sql) != essence(&part.sql) => Flaw::Altered,
            Some(_) => return None,
        };
        Some(Misfit { kind, name: part.name, flaw })
    };
    Ok(expected(version)?.into_iter().filter_map(misfit).collect())
}

/// Whether [`restore`] has nothing to do.
///
/// # Errors
/// [`Error::NewerSchema`], [`Error::ForeignTable`].
pub(crate) fn is_in_place(conn: &Connection) -> Result<bool, Error> {
    Ok(misfits(conn, version(conn)?)?.is_empty() && aside::miscounted(conn)?.is_none())
}

/// Makes indexes and triggers that are missing or altered as they should be: the names of those. Counts anew what the
/// triggers count.
///
/// # Errors
/// [`Error::ForeignTable`] where something else has such a name; [`Error::NewerSchema`].
pub(crate) fn restore(tx: &Transaction<'_>) -> Result<Vec<String>, Error> {
    let version = version(tx)?;
    let (mut restored, parts) = (Vec::new(), expected(version)?);
    for Misfit { kind, name, flaw } in misfits(tx, version)? {
        // Names and statements are those of schema.sql. `main`, since a temporary table may be named like ours.
        let (drop, create, in_main) = match kind {
            Kind::Table => continue,
            Kind::Index => ("DROP INDEX main.", "CREATE INDEX ", "CREATE INDEX main."),
            Kind::Trigger => ("DROP TRIGGER main.", "CREATE TRIGGER ", "CREATE TRIGGER main."),
        };
        match flaw {
            Flaw::Foreign => return Err(Error::ForeignTable { name }),
            Flaw::Altered => tx.execute_batch(&(drop.to_owned() + &name))?,
            Flaw::Missing => {}
        }
        if let Some(part) = parts.iter().find(|part| part.name == name) {
            tx.execute_batch(&part.sql.replacen(create, in_main, 1))?;
            restored.push(name);
        }
    }
    aside::recount(tx)?;
    Ok(restored)
}

/// Asked again: another program may have upgraded the outbox since it was opened here.
fn version(conn: &Connection) -> Result<usize, Error> {
    schema::version(conn, Path::new(conn.path().unwrap_or_default()))
}

fn expected(version: usize) -> Result<Vec<Part>, Error> {
    let model = Connection::open_in_memory()?;
    for migration in MIGRATIONS.iter().take(version) {
        model.execute_batch(migration)?;
    }
    parts(&model)
}

fn parts(conn: &Connection) -> Result<Vec<Part>, Error> {
    let mut statement =
        conn.prepare("SELECT type, name, tbl_name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?;
    let parts = statement.query_map([], |row| {
        let text = |column| decode::lossy(row, column).unwrap_or_default();
        Ok(Part { kind: Kind::of(&text(0)), name: text(1), table: text(2), sql: text(3) })
    })?;
    Ok(parts.collect::<Result<_, _>>()?)
}

/// The statement without what SQLite does not read: comments, and how it is laid out. Those may change from one release
/// to the next.
fn essence(sql: &str) -> String {
    let mut essence = String::new();
    let mut rest = sql;
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '\'' | '"' | '`' => rest[1..].find(next).map(|end| end + 2),
            '-' if rest.starts_with("--") => rest.find('\n').map(|end| end + 1),
            '/' if rest.starts_with("/*") => rest.find("*/").map(|end| end + 2),
            _ if next.is_whitespace() => rest.find(|c: char| !c.is_whitespace()),
            _ => Some(next.len_utf8()),
        };
        let (token, behind) = rest.split_at(length.unwrap_or(rest.len()));
        if token.starts_with("--") || token.starts_with("/*") || next.is_whitespace() {
            if !essence.ends_with(' ') {
                essence.push(' ');
            }
        } else {
            essence.push_str(token);
        }
        rest = behind;
    }
    essence.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::essence;

    #[test]
    fn comments_and_layout_are_no_difference_and_words_are() {
        let sql = "CREATE TABLE t ( -- it's one\n  a TEXT /* 'x' */ CHECK (a <> ' --  ')\n) -- end";
        assert_eq!(essence(sql), "CREATE TABLE t ( a TEXT CHECK (a <> ' --  ') )");
        assert_ne!(essence("CHECK (a <> 'x')"), essence("CHECK (a <> 'X')"));
        for unfinished in ["'", "--", "/*", "a 'b", "\u{e4} \"\u{e4}"] {
            essence(unfinished);
        }
    }
}
