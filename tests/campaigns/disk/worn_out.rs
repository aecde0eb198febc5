//! A card with less behind it than it says: from some moment on its device takes nothing more, syncs fail, and Linux
//! takes what could not be written for written. Then there is something behind it again.
//!
//! The same process goes on. It is killed, the card unmounted, checked by fsck and mounted again, so that what is read is
//! what stands on the device: every commit that was told is among it.

use std::time::{Duration, Instant};

use super::life::Database;
use super::{DRAINED_WITHIN, Outcome};
use crate::SOON;
use crate::args::Args;
use crate::card::Card;
use crate::chance::Chance;
use crate::workload::Said;

const MB: u64 = 1 << 20;
/// Cards for so many calls that fail.
const ONE_FOR: u64 = 40;

pub fn run(args: &Args, outcome: &mut Outcome) {
    let (mut cards, mut maybe, mut commits) = (0, 0, 0);
    for number in 0..(args.count / ONE_FOR).max(1) {
        let Some(mut card) = Card::ext4_with_less_behind(64 * MB, 24 * MB) else {
            outcome.skipped.push("worn-out: SKIPPED: no root, no loop device or no mkfs.ext4".to_owned());
            return;
        };
        let outside = tempfile::tempdir().expect("a folder");
        let mut database = Database::new(args, card.folder(), outside.path());
        let mut chance = Chance::seeded(args.seed.wrapping_add(number << 48));
        let broken = one(&mut card, &mut database, &mut chance).unwrap_or_else(|why| vec![why]);
        outcome.broken.extend(broken.into_iter().map(|what| format!("worn-out card {number}: {what}")));
        cards += 1;
        maybe += database.told.maybe.len();
        commits += database.told.committed.len();
    }
    outcome.words.push(format!("worn-out: {cards} cards, {commits} commits, {maybe} maybe"));
}

fn one(card: &mut Card, database: &mut Database<'_>, chance: &mut Chance) -> Result<Vec<String>, String> {
    database.settings = r#"{"settle_after":"50ms"}"#.to_owned();
    let mut workload = database.start(chance.of(0..=1 << 30) as u64, |_| ());
    database.hear(&workload, SOON, "OPEN")?;
    database.listen(&workload, chance.ms(20..=300))?;
    let worn_out = card.wear_out();
    // What it has there already may be written over for a while.
    let until = Instant::now() + SOON;
    while !database.listen(&workload, Duration::from_millis(20))?.iter().any(|said| matches!(said, Said::Maybe(_))) {
        if Instant::now() > until {
            return Err("the card takes everything: this is no worn-out card".to_owned());
        }
    }
    database.listen(&workload, chance.ms(0..=300))?;
    drop(worn_out);
    database.drains(&mut workload, DRAINED_WITHIN)?;
    workload.tell("write");
    database.hear(&workload, DRAINED_WITHIN, "COMMIT")?;
    database.listen(&workload, chance.ms(0..=100))?;
    database.kill(workload)?;
    card.repair();
    database.drain_again()?;
    Ok(database.judge())
}
