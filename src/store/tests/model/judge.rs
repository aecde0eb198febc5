//! What the store tells of the outbox, against what the model does.

use std::time::Duration;

use super::play::{World, pending};
use super::rows::{Model, Row};
use super::{MAX_PAYLOAD, same};
use crate::store::{self, Bound, Content, Lane, Status, Wanted};
use crate::{Error, Message};

/// What differs, if anything does. What the model cannot know, it is told here.
pub(super) fn judge(world: &mut World, step: usize) -> Result<(), String> {
    let told = judge_all(world, step);
    told.map_err(|error| match error {
        Told::Differs(what) => what,
        Told::Failed(error) => format!("the store failed: {error}"),
    })
}

enum Told {
    Differs(String),
    Failed(Error),
}

impl From<Error> for Told {
    fn from(error: Error) -> Self {
        Told::Failed(error)
    }
}

impl From<String> for Told {
    fn from(what: String) -> Self {
        Told::Differs(what)
    }
}

fn judge_all(world: &mut World, step: usize) -> Result<(), Told> {
    table(world)?;
    fresh(world)?;
    again(world)?;
    contents(world, step)?;
    counts(world)?;
    faults(world)
}

/// Every column that settling writes, of every row.
fn table(world: &mut World) -> Result<(), Told> {
    let World { app, model, .. } = world;
    let mut statement = app
        .prepare_cached(
            "SELECT id, status, attempts, wait_ms, held_by, last_error, synced, bytes, checksum IS NOT NULL, status_at
             FROM outbox NOT INDEXED ORDER BY id",
        )
        .map_err(Error::from)?;
    type Seen = (i64, Option<Status>, u32, Duration, Option<String>, Option<String>, bool, u64, bool);
    let seen = statement.query_map([], |row| {
        let status = Status::of(row.get::<_, Option<String>>(1)?.as_deref());
        let wait = Duration::from_millis(row.get::<_, i64>(3)?.unsigned_abs());
        let bytes = row.get::<_, i64>(7)?.unsigned_abs();
        let seen: Seen =
            (row.get(0)?, status, row.get(2)?, wait, row.get(4)?, row.get(5)?, row.get(6)?, bytes, row.get(8)?);
        Ok((seen, row.get::<_, i64>(9)?))
    });
    let seen: Vec<(Seen, i64)> = seen.and_then(Iterator::collect).map_err(Error::from)?;
    same("the ids in the table", ids(seen.iter().map(|(row, _)| row.0)), ids(model.rows.iter().map(|row| row.id)))?;
    for (row, (seen, status_at)) in model.rows.iter_mut().zip(seen) {
        let expected = (
            row.id,
            Some(row.status),
            row.attempts,
            row.wait,
            row.lane.as_ref().map(Lane::to_string),
            row.last_error.clone(),
            row.synced,
            row.bytes,
            row.summed.is_some(),
        );
        same("a row in the table", seen, expected)?;
        same("since when it is so", status_at, *row.status_at.get_or_insert(status_at))?;
    }
    Ok(())
}

/// What nobody has dealt with: in bites, as a forwarder reads it, and all at once.
fn fresh(world: &mut World) -> Result<(), Told> {
    let World { store, model, .. } = world;
    let lanes = model.lanes();
    let expected: Vec<&Row> = model.rows.iter().filter(|row| row.is_fresh()).collect();
    let stranded = expected.iter().find(|row| row.id <= model.position).map(|row| row.id);
    same("a row that nobody has dealt with, below the position", stranded, None)?;
    for (rows, bytes) in [(7, 900), (100_000, usize::MAX)] {
        let (mut after, mut read) = (model.position, Vec::new());
        loop {
            let bite = store.fresh(after, rows, bytes, true, MAX_PAYLOAD)?;
            let Some((last, _)) = bite.last() else { break };
            after = last.id;
            let counted = |row: &Row| if row.content().is_ok() { row.octets() as usize } else { 0 };
            let mut sum = 0;
            let due = expected[read.len()..].iter().take(rows).take_while(|row| {
                let goes_on = sum < bytes;
                sum = sum.saturating_add(counted(row));
                goes_on
            });
            same("how many rows a bite has", bite.len(), due.count())?;
            read.extend(bite);
        }
        same("what is fresh", ids(read.iter().map(|(row, _)| row.id)), ids(expected.iter().map(|row| row.id)))?;
        for (row, (told, content)) in expected.iter().zip(&read) {
            let lane = row.message.key.as_ref().map(|key| format!("key {key}"));
            let lane_held = lane.is_some_and(|lane| lanes.contains_key(&lane));
            same("a fresh row", told, &store::Row { lane_held, ..model.told(row) })?;
            same_content(row, content)?;
        }
    }
    Ok(())
}

/// What was dealt with before.
fn again(world: &mut World) -> Result<(), Told> {
    let World { store, model, .. } = world;
    let told = |rows: &mut dyn Iterator<Item = &Row>| rows.map(|row| model.told(row)).collect::<Vec<_>>();
    let waiting = told(&mut model.rows.iter().filter(|row| row.waits()));
    same("what waits", &store.again(0, 100_000)?, &waiting)?;
    if let [first, second, ..] = &waiting[..] {
        same("what waits behind the first", store.again(first.id, 1)?, vec![second.clone()])?;
    }
    let lanes = model.lanes();
    let mut firsts = Vec::new();
    for (text, rows) in &lanes {
        let lane = Lane::parse(text).expect("it was written by a lane");
        let rows = told(&mut rows.iter().copied());
        same("the rows of a lane", &store.lane(&lane, 0, 100_000)?, &rows)?;
        same("those behind its first", &store.lane(&lane, rows[0].id, 2)?[..], &rows[1..rows.len().min(3)])?;
        firsts.push((lane, rows[0].clone()));
    }
    same("the lanes", &store.lanes(None, 100_000)?, &firsts)?;
    if let Some((first, _)) = firsts.first() {
        same("the next lane", &store.lanes(Some(first), 1)?[..], &firsts[1..firsts.len().min(2)])?;
    }
    Ok(())
}

/// Messages, whatever became of them: a few of them each time.
fn contents(world: &mut World, step: usize) -> Result<(), Told> {
    const EACH_TIME: usize = 12;
    let World { app, store, model, .. } = world;
    let stride = model.rows.len().div_ceil(EACH_TIME).max(1);
    for row in model.rows.iter().skip(step % stride).step_by(stride).chain(model.rows.last()) {
        let content = store.content(row.id, MAX_PAYLOAD)?;
        same("it is still to be dealt with", content.is_some(), row.is_pending())?;
        let Some(stored) = store::get(app, row.id, MAX_PAYLOAD)? else {
            return Err(format!("row {} is not there", row.id).into());
        };
        same("its status", stored.status, Some(row.status))?;
        same("its size", stored.size, row.octets() as usize)?;
        content.iter().chain([&stored.content]).try_for_each(|content| same_content(row, content))?;
    }
    same("a row that is not there", store::get(app, model.newest() + 1, MAX_PAYLOAD)?.is_none(), true)?;
    Ok(())
}

fn same_content(row: &Row, content: &Content) -> Result<(), String> {
    match (content, row.content()) {
        (Content::Message { id, message, .. }, Ok(expected)) => {
            same("whose message it is", id.row(), row.id)?;
            same("a message", short(message), short(&expected))
        }
        (Content::Spoiled(why), Err(expected)) => same("why it cannot be sent", why.starts_with(expected), true),
        (content, expected) => Err(format!("row {}: {content:?}, and the model says {expected:?}", row.id)),
    }
}

/// Without most of a large payload in words that are printed; equal only where the whole is.
fn short(message: &Message) -> (Message, usize, u32) {
    let payload = message.payload.as_bytes();
    let mut short = message.clone();
    short.payload = crate::Payload::Bytes(payload[..payload.len().min(24)].to_vec());
    (short, payload.len(), crc32fast::hash(payload))
}

fn counts(world: &mut World) -> Result<(), Told> {
    let World { app, store, model, .. } = world;
    let count = |is: fn(&Row) -> bool| model.rows.iter().filter(|row| is(row)).count() as u64;
    let failed = || model.rows.iter().filter(|row| row.status == Status::Failed);
    let oldest = model.pending().map(|row| row.id).next();
    let figures = store::figures(app)?;
    same("pending", figures.pending, count(Row::is_pending))?;
    same("bytes pending", figures.pending_bytes, model.pending().map(|row| row.bytes).sum())?;
    same("waiting", figures.waiting, count(Row::waits))?;
    same("held", figures.held, count(Row::is_held))?;
    same("failed", figures.failed, count(|row| row.status == Status::Failed))?;
    same("sent", figures.sent, count(|row| row.status == Status::Sent))?;
    same("unreadable", (figures.unreadable, store::unreadable(app)?), (0, 0))?;
    same("failed, by its index", store::failed_count(app)?, figures.failed)?;
    let listed = store::failed(app, 0, 100_000)?;
    let listed: Vec<_> = listed.into_iter().map(|row| (row.id.row(), row.topic, row.reason, row.attempts)).collect();
    let told =
        |row: &Row| (row.id, row.message.topic.clone(), row.last_error.clone().unwrap_or_default(), row.attempts);
    same("the list of the failed", listed, failed().map(told).collect())?;
    same("the newest row", store::newest(app)?, model.newest())?;
    same("the position", (store::position(app)?, store.position()?), (model.position, model.position))?;
    same("when the oldest was written", store::oldest_pending(app, model.position)?, figures.oldest_pending)?;
    same("whether there is an oldest", figures.oldest_pending.is_some(), oldest.is_some())?;
    for upto in [model.position, model.newest() / 2, model.newest()] {
        let is_pending = oldest.is_some_and(|oldest| oldest <= upto);
        same("whether anything up to a row is pending", store.is_pending(model.position, upto)?, is_pending)?;
    }
    let fresh = model.rows.iter().filter(|row| row.is_fresh()).count() as u64;
    same("fresh above the position", store::fresh_above(app, model.position, 100_000)?, fresh)?;
    for settled in [0, model.dealt_with()] {
        let found = store::pending(app, settled, 100_000)?;
        same("what is pending, by the counters", (found.rows, found.bytes), pending(model))?;
        same("what is set aside, by the counters", found.aside, figures.waiting + figures.held)?;
    }
    summaries(world)
}

fn summaries(world: &World) -> Result<(), Told> {
    let World { app, model, .. } = world;
    let every: [fn(&Row) -> bool; 3] =
        [|_| true, |row| row.status == Status::Failed, |row| row.status == Status::Pending];
    for (status, is) in [None, Some(Some(Status::Failed)), Some(Some(Status::Pending))].into_iter().zip(every) {
        let wanted = Wanted { status, ..Wanted::default() };
        let listed = |bound, most| -> Result<Vec<i64>, Error> {
            Ok(store::summaries(app, &wanted, bound, most)?.iter().map(|row| row.id.row()).collect())
        };
        let mut expected: Vec<i64> = model.rows.iter().filter(|row| is(row)).map(|row| row.id).collect();
        same("a list", ids(listed(Bound::After(0), 100_000)?), ids(expected.iter().copied()))?;
        expected.reverse();
        expected.truncate(5);
        same("the newest of a list", listed(Bound::Before(i64::MAX), 5)?, expected)?;
    }
    Ok(())
}

/// The outbox looks for faults itself, SQLite included.
fn faults(world: &World) -> Result<(), Told> {
    let World { app, model, path, .. } = world;
    let mut faults = Vec::new();
    let looked = store::check(app, path, MAX_PAYLOAD, &mut |fault| faults.push(fault))?;
    same("rows looked at", looked.rows, model.rows.len() as u64)?;
    let spoiled = model.rows.iter().filter(|row| row.content().is_err()).map(|row| row.id);
    let told: Vec<Option<i64>> = faults.iter().map(spoiled_row).collect();
    if told != spoiled.map(Some).collect::<Vec<_>>() {
        return Err(format!("faults: {faults:?}").into());
    }
    Ok(())
}

/// A row that cannot be sent is one, and told of; everything else would be new to the model.
fn spoiled_row(fault: &store::Fault) -> Option<i64> {
    match fault {
        store::Fault::Spoiled { id, .. } => Some(*id),
        _ => None,
    }
}

/// Ids in as few words as they can be told in.
fn ids(ids: impl IntoIterator<Item = i64>) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => ranges.push((id, id)),
        }
    }
    ranges
}

/// A model that is wrong about itself would prove nothing.
#[test]
fn ids_of_rows_are_told_in_ranges() {
    assert_eq!(ids([1, 2, 3, 5, 7, 8]), [(1, 3), (5, 5), (7, 8)]);
    assert_eq!(Model::default().newest(), 0);
}
