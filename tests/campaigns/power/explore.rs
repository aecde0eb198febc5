//! What a cut may leave, over and over, of one take.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use super::card::{self, Card, Files, MODES, Mode};
use super::drain;
use super::judge::{self, Found};
use super::recorder::{Entry, OTHERS};
use super::story::{Control, Phase, Plan, Take, said};
use super::told::{Promise, Told};
use crate::chance::Chance;

/// One in so many is drained by the outbox, too; of those that an outbox was only about to be made in, more.
const DRAINED: usize = 10;
const DRAINED_UNMADE: usize = 3;

/// An image: where the cut is, and what it makes of what is not synced.
struct Cut {
    number: u64,
    /// Entries that are done.
    at: usize,
    mode: Mode,
    chance: Chance,
}

impl Cut {
    /// The n-th of a take is always the same. A third are in what happens before the work, which is short.
    fn of(take: &Take, phases: &[Phase], number: u64) -> Cut {
        let mut chance =
            Chance::seeded(take.seed.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ number.wrapping_mul(0xa076_1d64_78bd_642f));
        let before_work = phases.iter().filter(|phase| **phase != Phase::Work).count();
        let at = if before_work > 0 && chance.one_in(3) {
            let wanted = chance.of(0..=before_work - 1);
            let mut places = phases.iter().enumerate().filter(|(_, phase)| **phase != Phase::Work);
            places.nth(wanted).expect("there are so many").0 + 1
        } else {
            chance.of(1..=phases.len())
        };
        Cut { number, at, mode: chance.pick(&MODES), chance }
    }

    fn is_drained(&mut self, phase: Phase) -> bool {
        let is_unmade = matches!(phase, Phase::Creation | Phase::Upgrade);
        self.chance.one_in(if is_unmade { DRAINED_UNMADE } else { DRAINED })
    }
}

/// Of many images.
#[derive(Default)]
pub struct Tally {
    pub images: u64,
    pub drained: u64,
    pub modes: BTreeMap<(Promise, Mode), u64>,
    pub phases: BTreeMap<Phase, u64>,
    /// The most commits that were told and lost where that is allowed, and in how many images some were.
    pub most_lost: BTreeMap<Promise, i64>,
    pub losing: BTreeMap<Promise, u64>,
    /// What is wrong, the first few.
    pub broken: Vec<String>,
    pub broken_images: u64,
    pub takes: u64,
}

/// Where images are made: one folder for each thread.
pub struct Bench {
    folder: PathBuf,
}

impl Bench {
    pub fn new(folder: PathBuf) -> Self {
        Bench { folder }
    }

    pub fn database(&self) -> PathBuf {
        self.folder.join("a.db")
    }

    /// These files, and around them what else a cut may have left. They are written over the ones before, which takes
    /// half as long.
    pub fn lay_out(&self, files: &Files, chance: &mut Chance) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.folder)?;
        let database = self.database();
        card::write(files, &database)?;
        for other in OTHERS {
            let _ = fs::remove_file(card::beside(&database, other));
        }
        if files[0].is_none() {
            return Ok(database);
        }
        let mut litter = |suffix: &str, size: usize| {
            let garbage: Vec<u8> = (0..size).map(|_| chance.of(0..=255) as u8).collect();
            if chance.one_in(2) { fs::write(card::beside(&database, suffix), garbage) } else { Ok(()) }
        };
        litter("-shm", 32 * 1024)?;
        litter("-outbox-lock", 0)?;
        litter("-outbox-reserve", 100)?;
        litter("-outbox-probe", 100)?;
        Ok(database)
    }
}

/// Judges images `0..images` of the take, or that one alone. Answers one that was in order, to go on from.
pub fn explore(take: &Take, plan: &Plan, images: u64, only: Option<u64>, bench: &Bench) -> (Tally, Option<Next>) {
    let phases = take.phases();
    let wanted = only.map_or(0..images, |only| only..only + 1);
    let mut cuts: Vec<Cut> = wanted.map(|number| Cut::of(take, &phases, number)).collect();
    cuts.sort_by_key(|cut| cut.at);
    let mut chance = Chance::seeded(take.seed);
    let go_on_from = chance.of(0..=cuts.len().max(1) - 1);
    let (mut tally, mut next) = (Tally { takes: 1, ..Tally::default() }, None);
    let (mut card, mut told, mut done) = (Card::holding(take.base.clone()), take.told.clone(), 0);
    for (place, mut cut) in cuts.into_iter().enumerate() {
        while done < cut.at {
            card.follow(done, &take.log);
            let entry = &take.log.entries[done];
            told.kills += u64::from(*entry == Entry::Life && done > 0);
            if let Err(why) = said(entry).and_then(|said| said.map_or(Ok(()), |said| told.note(&said))) {
                tally.broken.push(why);
            }
            done += 1;
        }
        let files = card.after_cut(&take.log, cut.mode, &mut cut.chance);
        tally.images += 1;
        *tally.modes.entry((told.promise, cut.mode)).or_default() += 1;
        *tally.phases.entry(phases[cut.at - 1]).or_default() += 1;
        let is_drained = plan.control.is_none() && cut.is_drained(phases[cut.at - 1]);
        tally.drained += u64::from(is_drained);
        match judge_image(&files, &told, is_drained, bench, &mut cut.chance) {
            Ok(found) => {
                if found.lost > 0 {
                    *tally.losing.entry(told.promise).or_default() += 1;
                    let most = tally.most_lost.entry(told.promise).or_default();
                    *most = found.lost.max(*most);
                }
                if place >= go_on_from && next.is_none() {
                    next = Some(Next { told: told.after_cut(&found.rows), files });
                }
            }
            Err(why) => {
                tally.broken_images += 1;
                if tally.broken.len() < crate::args::TOLD {
                    tally.broken.push(tell(take, plan, &cut, &why, phases[cut.at - 1]));
                }
            }
        }
    }
    (tally, next)
}

/// From where a story goes on.
pub struct Next {
    pub files: Files,
    pub told: Told,
}

fn judge_image(
    files: &Files,
    told: &Told,
    is_drained: bool,
    bench: &Bench,
    chance: &mut Chance,
) -> Result<Found, Vec<String>> {
    let lay_out = |chance: &mut Chance| bench.lay_out(files, chance).map_err(|why| vec![why.to_string()]);
    let found = judge::judge(&lay_out(chance)?, told)?;
    if is_drained {
        let broken = drain::judge(&lay_out(chance)?, told, &found);
        if !broken.is_empty() {
            return Err(broken);
        }
    }
    Ok(found)
}

/// What is wrong, and how it is seen again.
fn tell(take: &Take, plan: &Plan, cut: &Cut, why: &[String], phase: Phase) -> String {
    let (first, more) = (&why[0], why.len() - 1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    let again = match plan.control {
        Some(_) => String::new(),
        None => match take.keep() {
            Ok(folder) => format!("; again: scripts/prove power-cuts --only {}:{}", relative(&folder), cut.number),
            Err(why) => format!("; it could not be kept: {why}"),
        },
    };
    format!("{first}{more}; {:?} at entry {} in {phase:?}{again}", cut.mode, cut.at)
}

fn relative(folder: &Path) -> String {
    folder.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(folder).display().to_string()
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.images += other.images;
        self.drained += other.drained;
        self.takes += other.takes;
        self.broken_images += other.broken_images;
        self.broken.extend(other.broken);
        for (key, count) in other.modes {
            *self.modes.entry(key).or_default() += count;
        }
        for (key, count) in other.phases {
            *self.phases.entry(key).or_default() += count;
        }
        for (key, count) in other.losing {
            *self.losing.entry(key).or_default() += count;
        }
        for (key, lost) in other.most_lost {
            let most = self.most_lost.entry(key).or_default();
            *most = lost.max(*most);
        }
    }
}

impl Tally {
    /// In words.
    pub fn summary(&self) -> String {
        let promises: BTreeSet<Promise> = self.modes.keys().map(|(promise, _)| *promise).collect();
        let by_promise = promises.iter().map(|promise| {
            let modes = self.modes.iter().filter(|((of, _), _)| of == promise);
            let modes = modes.map(|((_, mode), count)| format!("{count} {mode:?}")).collect::<Vec<_>>().join(" ");
            let lost = self.most_lost.get(promise).map_or(String::new(), |most| {
                format!("; {} without their last commits, {most} at most", self.losing[promise])
            });
            format!("{promise:?} ({modes}{lost})")
        });
        let phases = self.phases.iter().map(|(phase, count)| format!("{count} in {phase:?}"));
        format!(
            "{} images of {} recorded runs, {} of them drained: {}; {}",
            self.images,
            self.takes,
            self.drained,
            by_promise.collect::<Vec<_>>().join(", "),
            phases.collect::<Vec<_>>().join(", "),
        )
    }
}

/// Whether the control showed what it has to.
pub fn shows(control: Control, tally: &Tally) -> Result<String, String> {
    let Tally { images, broken_images, .. } = tally;
    if *broken_images == 0 {
        let why = tally.broken.first().map_or(String::new(), |why| format!("; {why}"));
        return Err(format!(
            "control {control:?}: no loss is seen in {images} images: the recorder or the judge is broken{why}"
        ));
    }
    Ok(format!("control {control:?}: {broken_images} of {images} images broken, as they must be"))
}
