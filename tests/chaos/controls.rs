//! Whether the judge can say no: lies that must be found, before anything is believed.

use std::time::Duration;

use crate::SOON;
use crate::oracle::{Evidence, Row};
use crate::plan::{Manner, Plan};
use crate::within;
use crate::world::{World, judge_the_present};

/// How many lies there were.
///
/// # Errors
/// The lie that was not found.
pub fn run() -> Result<usize, String> {
    let manner = Manner::ALL[0];
    let plan = Plan { settle_after: Duration::ZERO, ..Plan::draw(1, manner, 500, 0) };
    a_row_that_is_called_sent_while_its_acknowledgement_is_held(&plan)?;
    Ok(1 + lies_of_the_witnesses()?)
}

/// In the real world, as a run looks at it.
fn a_row_that_is_called_sent_while_its_acknowledgement_is_held(plan: &Plan) -> Result<(), String> {
    let world = World::new(plan, tempfile::tempdir().expect("a temporary folder"));
    world.proxy.hold_acks();
    let batch = plan.batches.iter().find(|batch| batch.commits && batch.letters.len() >= 2).expect("one of many");
    let outbox = &world.outbox;
    let enqueued = outbox.transaction(|tx| {
        batch.letters.iter().try_for_each(|letter| {
            let message = edge_outbox::Message::text(letter.topic(), &letter.payload);
            outbox.enqueue(tx, &message).map(drop)
        })
    });
    enqueued.expect("a fresh database");
    world.proxy.wait_for("a message on the wire", |traffic| traffic.published.first().cloned());
    let honest = judge_the_present(&world.table, &world.proxy);
    if !honest.is_empty() {
        return Err(format!("nothing was acknowledged, and the judge says {honest:?}"));
    }

    let lie = "UPDATE outbox SET status = 'SENT', filler = '...' WHERE id = 2";
    outbox.transaction(|tx| tx.execute(lie, []).map_err(edge_outbox::Error::from)).expect("a row that is there");
    let found = judge_the_present(&world.table, &world.proxy);
    if !found.iter().any(|found| found.contains("SENT without an acknowledgement")) {
        return Err(format!("a row was called SENT while its acknowledgement was held, and the judge says {found:?}"));
    }
    world.proxy.pass_acks();
    if within(SOON, || judge_the_present(&world.table, &world.proxy).is_empty()) {
        Ok(())
    } else {
        Err("every acknowledgement was passed on, and the judge goes on saying no".to_owned())
    }
}

/// A tale in which all is well, and what would make it a lie.
fn lies_of_the_witnesses() -> Result<usize, String> {
    let truth = truth();
    if !truth.judge().is_empty() {
        return Err(format!("all is well, and the judge says {:?}", truth.judge()));
    }
    type Lie = fn(&mut Evidence);
    let lies: [(&str, Lie); 11] = [
        ("SENT without", |e| e.acknowledged.retain(|told| told != "chaos/1 3")),
        ("FAILED", |e| e.table[4].status = "FAILED".to_owned()),
        ("still PENDING", |e| e.table[4].status = "PENDING".to_owned()),
        ("lost", |e| e.received.retain(|told| told != "chaos/1 3")),
        ("received, and never", |e| e.received.push("chaos/1 rolled back".to_owned())),
        ("received, and never", |e| e.received[2].push('!')),
        ("sent, and never", |e| e.published[2].push('!')),
        ("first sent behind", |e| e.published.swap(1, 3)),
        ("first received behind", |e| e.received.swap(1, 3)),
        ("does not hold", |e| drop(e.table.remove(7))),
        ("repeated", |e| e.published.extend_from_within(..3)),
    ];
    for (expected, lie) in &lies {
        let mut evidence = truth.clone();
        lie(&mut evidence);
        let found = evidence.judge();
        if !found.iter().any(|found| found.contains(expected)) {
            return Err(format!("{expected:?} was to be found, and the judge says {found:?}"));
        }
    }
    Ok(lies.len())
}

/// Ten messages of two keys, two of them repeated, one of them refused at first.
fn truth() -> Evidence {
    let told = |n: usize| format!("chaos/{} {n}", n % 2);
    let committed: Vec<String> = (0..10).map(told).collect();
    let published: Vec<String> = (0..6).chain(4..10).map(told).collect();
    let mut received = published.clone();
    received.swap(0, 2);
    Evidence {
        table: committed.iter().map(|told| Row { status: "SENT".to_owned(), told: told.clone() }).collect(),
        acknowledged: committed.iter().cloned().collect(),
        delayed: [told(0)].into(),
        most_repeated: 2,
        committed,
        published,
        received,
    }
}
