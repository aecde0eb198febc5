//! The failed messages that a command names.

use edge_outbox::{MessageState, Outbox};

use crate::args::{Database, RowId};
use crate::failure::{Failure, say};
use crate::output::counted;
use crate::words;

/// Rows that are failed messages, in the order they were named in. The others are told of, and counted.
pub struct Named<'a> {
    database: &'a Database,
    pub rows: Vec<i64>,
    pub wrong: usize,
}

impl<'a> Named<'a> {
    pub fn of(outbox: &Outbox, database: &'a Database, ids: &[RowId]) -> Result<Self, Failure> {
        let mut named = Named { database, rows: Vec::new(), wrong: 0 };
        for id in ids {
            match why_not(outbox, *id).map_err(|error| database.failure(&error))? {
                Some(why) => named.is_wrong(why),
                None if named.rows.contains(&id.row()) => {} // named twice
                None => named.rows.push(id.row()),
            }
        }
        Ok(named)
    }

    pub fn is_wrong(&mut self, why: String) {
        self.wrong += 1;
        say(self.database.says(why));
    }
}

fn why_not(outbox: &Outbox, id: RowId) -> Result<Option<String>, edge_outbox::Error> {
    let row = id.row();
    let Some(found) = outbox.message(row)? else {
        return Ok(Some(format!("row {row} is not there: there never was one, or it was deleted")));
    };
    Ok(match id {
        RowId::Whole(whole) if whole != found.id => {
            Some(format!("{whole} is not there: row {row} is another message, {}", found.id))
        }
        _ => match found.state {
            MessageState::Failed => None,
            state @ (MessageState::Pending | MessageState::Sent) => {
                Some(format!("row {row} is {}, not failed", words::state(state)))
            }
            _ => Some(format!("row {row} is damaged: it is not failed until a forwarder parks it")),
        },
    })
}

/// `1 failed message`, `1,000 failed messages`.
pub fn messages(count: u64) -> String {
    counted(count, "failed message")
}
