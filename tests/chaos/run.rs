//! One run: a program that writes, a network that fails, a broker that is killed, and somebody who looks meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::rusqlite::Transaction;
use edge_outbox::{Error, Message, Outbox};
use tempfile::TempDir;

use crate::plan::{Batch, Plan};
use crate::proxy::{Proxy, Traffic};
use crate::world::{World, judge_the_present};
use crate::{SOON, within};

/// What a run came to.
#[derive(Default)]
pub struct Report {
    pub faults: BTreeMap<&'static str, usize>,
    pub connections: usize,
    /// PUBLISH that said what an earlier one had said.
    pub repeated: usize,
    /// The same at the subscriber, where the broker's own repetitions come on top.
    pub received_again: usize,
    pub took: Duration,
    /// Nothing, if every promise was kept.
    pub findings: Vec<String>,
}

/// Carries out the plan, in this folder, and judges.
pub fn play(plan: &Plan, folder: TempDir) -> Report {
    let begun = Instant::now();
    let mut world = World::new(plan, folder);
    let (mut report, mut known) = (Report::default(), BTreeSet::new());
    let World { outbox, table, proxy, broker, .. } = &mut world;
    thread::scope(|scope| {
        let writer = Writer { outbox, proxy, plan };
        let writer = scope.spawn(move || writer.write());
        for (at, fault) in &plan.faults {
            proxy.wait_for("progress", |traffic| (traffic.accepted_count() >= *at).then_some(()));
            *report.faults.entry(fault.kind()).or_default() += 1;
            let mut look = || {
                for found in judge_the_present(table, proxy) {
                    // once, where it went wrong, and not again at every later look
                    if known.insert(found.clone()) {
                        report.findings.push(format!("at {at}, with {fault:?}: {found}"));
                    }
                }
            };
            fault.happen(proxy, broker, &mut look);
            look();
        }
        writer.join().expect("the program that writes");
    });
    if let Err(error) = world.outbox.flush(2 * SOON) {
        report.findings.push(format!("{error}; it is {:?}", world.outbox));
    }
    report.took = begun.elapsed();
    report.finish(plan, world);
    report
}

impl Report {
    fn finish(&mut self, plan: &Plan, world: World) {
        let traffic = world.proxy.traffic();
        let levels: Vec<u8> = traffic.levels.iter().copied().collect();
        if levels != [plan.manner.level()] {
            self.findings.push(format!("the protocol levels {levels:?} were spoken"));
        }
        let evidence = world.evidence(plan);
        self.findings.extend(evidence.judge());
        self.connections = traffic.connections;
        self.repeated = evidence.repeated();
        self.received_again = evidence.received.len().saturating_sub(evidence.committed.len());
    }
}

/// The program: it commits and rolls back, and does not run too far ahead, so that it writes through all of the faults.
struct Writer<'r> {
    outbox: &'r Outbox,
    proxy: &'r Proxy,
    plan: &'r Plan,
}

/// Why a transaction came to nothing.
#[derive(Debug)]
enum Undone {
    OnPurpose,
    #[allow(dead_code, reason = "for whoever reads the panic")]
    By(Error),
}

impl From<Error> for Undone {
    fn from(error: Error) -> Self {
        Undone::By(error)
    }
}

impl Writer<'_> {
    fn write(&self) {
        let mut committed = 0;
        for batch in &self.plan.batches {
            let room = || self.proxy.look(Traffic::accepted_count) + self.plan.ahead >= committed;
            assert!(within(2 * SOON, room), "nothing gets through any more: {:?}", self.outbox);
            match self.outbox.transaction(|tx| self.enqueue(tx, batch)) {
                Ok(()) => committed += batch.letters.len(),
                Err(Undone::OnPurpose) => {}
                Err(Undone::By(error)) => panic!("{error}: {error:?}"),
            }
        }
    }

    fn enqueue(&self, tx: &Transaction<'_>, batch: &Batch) -> Result<(), Undone> {
        for letter in &batch.letters {
            let message = Message::text(letter.topic(), &letter.payload)
                .with_key(letter.key.to_string())
                .with_qos(self.plan.manner.qos);
            self.outbox.enqueue(tx, &message)?;
        }
        if batch.commits { Ok(()) } else { Err(Undone::OnPurpose) }
    }
}
