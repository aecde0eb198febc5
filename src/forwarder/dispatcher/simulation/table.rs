//! The table as a model: what stands in it, and what of that would survive a power cut.

use std::sync::Arc;
use std::time::Duration;

use crate::store::{Batch, Fate, Lane, Query, Row};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::forwarder::dispatcher) enum Status {
    Pending,
    Sent,
    Failed,
    /// Discarded by somebody: no row any more.
    Gone,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::forwarder::dispatcher) struct Stored {
    pub topic: Arc<str>,
    pub key: Option<Arc<str>>,
    pub size: usize,
    pub status: Status,
    pub attempts: u32,
    pub wait: Duration,
    pub held_by: Option<Lane>,
    pub synced: bool,
}

impl Stored {
    pub fn is_pending(&self) -> bool {
        self.status == Status::Pending
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Disk {
    rows: Vec<Stored>,
    position: i64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(in crate::forwarder::dispatcher) struct Table {
    now: Disk,
    /// What a power cut leaves: everything up to the last commit that was synced, whoever made it.
    durable: Disk,
}

impl Table {
    pub fn newest(&self) -> i64 {
        self.now.rows.len() as i64
    }

    pub fn position(&self) -> i64 {
        self.now.position
    }

    pub fn row(&self, id: i64) -> &Stored {
        &self.now.rows[id as usize - 1]
    }

    pub fn rows(&self) -> impl Iterator<Item = (i64, &Stored)> {
        (1..).zip(&self.now.rows)
    }

    pub fn is_durable(&self, id: i64) -> bool {
        id <= self.durable.rows.len() as i64
    }

    /// A commit of new rows. `synced`: by a connection whose commits reach the disk, whatever the rows say of it.
    pub fn commit(&mut self, rows: Vec<Stored>, synced: bool) {
        self.now.rows.extend(rows);
        self.sync_if(synced);
    }

    /// A commit that changes a row by hand.
    pub fn edit(&mut self, id: i64, synced: bool, change: impl FnOnce(&mut Stored)) {
        change(&mut self.now.rows[id as usize - 1]);
        self.sync_if(synced);
    }

    fn sync_if(&mut self, synced: bool) {
        if synced {
            self.durable = self.now.clone();
        }
    }

    pub fn power_cut(&mut self) {
        self.now = self.durable.clone();
    }

    /// The settling transaction. Only a pending row is settled.
    pub fn settle(&mut self, batch: &Batch) {
        for settlement in &batch.settlements {
            let row = &mut self.now.rows[settlement.id as usize - 1];
            if !row.is_pending() {
                continue;
            }
            match &settlement.fate {
                Fate::Sent => (row.status, row.held_by) = (Status::Sent, None),
                Fate::Failed { .. } => (row.status, row.held_by) = (Status::Failed, None),
                Fate::Waiting { wait, lane, .. } => (row.wait, row.held_by) = (*wait, lane.clone()),
                Fate::Held { lane } => row.held_by = Some(lane.clone()),
            }
            row.attempts += u32::from(!matches!(settlement.fate, Fate::Held { .. }));
        }
        if let Some(position) = batch.position {
            self.now.position = position;
        }
        self.sync_if(batch.synced);
    }

    fn view(&self, id: i64, stored: &Stored, lanes: bool) -> Row {
        let lane = stored.key.clone().filter(|_| lanes).map(Lane::Key);
        let in_lane = |(other, row): (i64, &Stored)| other != id && row.is_pending() && row.held_by == lane;
        Row {
            id,
            topic: stored.topic.clone(),
            key: stored.key.clone(),
            size: stored.size,
            attempts: stored.attempts,
            wait: stored.wait,
            synced: stored.synced,
            lane_held: lane.is_some() && self.rows().any(in_lane),
        }
    }

    fn pending(&self, after: i64) -> impl Iterator<Item = (i64, &Stored)> {
        self.rows().skip(after.max(0) as usize).filter(|(_, row)| row.is_pending())
    }

    /// What `Fresh`, `Again` and `Lane` find.
    pub fn find(&self, query: &Query) -> Vec<Row> {
        match query {
            Query::Fresh { after, rows, bytes, lanes } => {
                let mut taken = 0;
                self.pending(*after)
                    .filter(|(_, row)| row.attempts == 0 && row.held_by.is_none())
                    .take(*rows)
                    .take_while(|(_, row)| {
                        let more = taken < *bytes;
                        taken += row.size;
                        more
                    })
                    .map(|(id, row)| self.view(id, row, *lanes))
                    .collect()
            }
            Query::Again { after, rows } => {
                let again = self.pending(*after).filter(|(_, row)| row.attempts > 0 && row.held_by.is_none());
                again.take(*rows).map(|(id, row)| self.view(id, row, false)).collect()
            }
            Query::Lane { lane, after, rows } => {
                let in_lane = self.pending(*after).filter(|(_, row)| row.held_by.as_ref() == Some(lane));
                in_lane.take(*rows).map(|(id, row)| self.view(id, row, false)).collect()
            }
            Query::Lanes { .. } => Vec::new(),
        }
    }

    /// What `Lanes` finds.
    pub fn find_lanes(&self, after: Option<&Lane>, rows: usize) -> Vec<(Lane, Row)> {
        let mut heads = std::collections::BTreeMap::new();
        for (id, row) in self.pending(0) {
            if let Some(lane) = row.held_by.clone().filter(|lane| after.is_none_or(|after| lane > after)) {
                heads.entry(lane).or_insert((id, row));
            }
        }
        heads.into_iter().take(rows).map(|(lane, (id, row))| (lane, self.view(id, row, false))).collect()
    }
}
