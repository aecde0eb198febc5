//! The outbox itself on what a cut left: it opens, sends what is pending, and finds nothing wrong.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use edge_outbox::broker::InProcess;
use edge_outbox::{Error, Outbox, Settings};

use super::card;
use super::judge::{self, Found};
use super::story::WINDOW;
use super::told::Told;
use crate::workload::Reading;
use crate::{SOON, audit};

/// What one interruption may repeat: what is in flight, and what waits to be written down; after a power cut what was
/// written down without a sync, too.
const REPEATED: u64 = WINDOW as u64 + 516;
const UNSYNCED: u64 = 1_000;

/// `found` is what SQLite alone found in the same files.
pub fn judge(database: &Path, told: &Told, found: &Found) -> Vec<String> {
    // Before anything is mended that the cut left half done.
    let cannot_look = card::beside(database, "-journal").exists();
    let wrong = if cannot_look { Vec::new() } else { audit::sound_to_the_outbox(database) };
    if !wrong.is_empty() {
        return wrong;
    }
    let (mut arrived, mut broken) = (told.got.clone(), Vec::new());
    match drain(database) {
        Ok(now) => {
            let strange = now.iter().filter(|reading| reading.is_none());
            broken.extend(strange.map(|_| "what arrived is none of the workload's".to_owned()));
            arrived.extend(now.into_iter().flatten());
        }
        Err(error) => broken.push(format!("the outbox: {error}")),
    }
    let rows: BTreeSet<Reading> = found.rows.iter().copied().collect();
    broken.extend(audit::delivered(&rows, &arrived));
    let interruptions = told.kills * REPEATED + (told.cuts + 1) * (REPEATED + UNSYNCED);
    broken.extend(audit::repeated(&arrived, 1, interruptions));
    broken.extend(audit::sound_to_the_outbox(database));
    let mut told = told.clone();
    arrived.into_iter().for_each(|reading| told.note_got(reading));
    match judge::judge(database, &told) {
        Ok(after) if after.rows == found.rows => {}
        Ok(after) => broken.push(format!(
            "biz had {} rows before the outbox opened it, {} after",
            found.rows.len(),
            after.rows.len()
        )),
        Err(more) => broken.extend(more.into_iter().map(|what| format!("after the outbox opened it: {what}"))),
    }
    broken
}

/// All that it sends, until nothing is pending; `None` is what nobody wrote.
fn drain(database: &Path) -> Result<Vec<Option<Reading>>, Error> {
    let broker = InProcess::new();
    let everything = broker.subscribe("#")?;
    let listening = thread::spawn(move || {
        let mut arrived = Vec::new();
        for arrival in everything.iter() {
            arrived.push(Reading::of(arrival.message.payload.as_bytes()));
            arrival.acknowledge();
        }
        arrived
    });
    // A short settling, and little of everything else: this is done thousands of times.
    let settings =
        Settings { window: WINDOW, settle_after: Duration::from_millis(1), reserve: 0, ..Settings::default() };
    let outbox = Outbox::builder(database).settings(settings).broker(broker).open();
    // It is dropped after that, and the listener ends with it.
    let drained = outbox.and_then(|outbox| outbox.flush(SOON).and_then(|()| outbox.shutdown(SOON)));
    let arrived = listening.join().expect("it only reads");
    drained.map(|()| arrived)
}
