//! Purging on devices whose wall clock says anything: what it says is an argument here, and so is the uptime.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Batch, Device, Fate, NOW, Settlement, batch, failed, held};
use crate::store::{Lane, Purge, Uptime, retry};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const RETENTION: i64 = 10 * MINUTE;

/// 54 years: from 2023 as far back as 1969, and as far ahead as 2077.
const STEP: i64 = 54 * 365 * 24 * 60 * MINUTE;

/// A device that is on for a while, is cut off, and boots again.
struct Life {
    device: Device,
    boot: u32,
    /// What its wall clock says, in Unix milliseconds.
    wall: i64,
    /// Since the boot, in milliseconds.
    uptime: i64,
    /// In all the time it was on, which it does not know.
    lived: i64,
    retention: Duration,
    /// When each row that was sent and is not gone was, in the time lived.
    sent: BTreeMap<i64, i64>,
    /// How old by uptime the youngest was that went, and the oldest.
    gone: Option<(i64, i64)>,
    newest: i64,
}

impl Life {
    fn new() -> Self {
        Life {
            device: Device::new(),
            boot: 0,
            wall: NOW,
            uptime: 0,
            lived: 0,
            retention: ms(RETENTION),
            sent: BTreeMap::new(),
            gone: None,
            newest: 0,
        }
    }

    /// Switches it on: `before` passes until the forwarder makes its first commit, as after every start.
    fn boot(mut self, before: i64) -> Self {
        self.boot += 1;
        self.uptime = 0;
        self = self.reopen();
        self.pass(before);
        self.write_state();
        self
    }

    /// Starts the process anew, or another one that stood by; the device stays on.
    fn restart(mut self) -> Self {
        self = self.reopen();
        self.write_state();
        self
    }

    /// Nothing here depends on what reaches the disk, and the tests are quicker without.
    fn reopen(mut self) -> Self {
        self.device = self.device.reopen();
        self.device.sql("PRAGMA synchronous = OFF");
        self
    }

    fn pass(&mut self, time: i64) {
        self.wall += time;
        self.uptime += time;
        self.lived += time;
    }

    /// A commit that touches the state, as the barrier after a start does.
    fn write_state(&mut self) {
        self.settle(&Batch { position: Some(self.newest), ..Batch::default() });
    }

    fn settle(&mut self, batch: &Batch) {
        let uptime = Uptime { boot: Some(self.boot), since_boot: ms(self.uptime) };
        let purge = Purge { retention: self.retention, upto: self.newest, uptime };
        self.device.store.settle(batch, self.wall, Some(purge)).expect("settles");
    }

    /// Enqueues as many messages and has them acknowledged.
    fn send(&mut self, messages: i64) {
        self.device.put_many(messages as usize);
        self.acknowledge(self.newest + 1..=self.newest + messages);
    }

    fn acknowledge(&mut self, ids: impl Iterator<Item = i64>) {
        let settlements: Vec<_> = ids.map(|id| Settlement { id, fate: Fate::Sent }).collect();
        for Settlement { id, .. } in &settlements {
            self.newest = self.newest.max(*id);
            self.sent.insert(*id, self.lived);
        }
        self.settle(&Batch { settlements, ..Batch::default() });
        self.count_the_gone();
    }

    fn count_the_gone(&mut self) {
        let mut statement = self.device.app.prepare_cached("SELECT id FROM outbox").expect("SQL");
        let left: Vec<i64> = statement.query_map([], |row| row.get(0)).expect("SQL").map(Result::unwrap).collect();
        let is_left = |id: &i64| left.binary_search(id).is_ok();
        for (_, at) in self.sent.iter().filter(|(id, _)| !is_left(id)) {
            let age = self.lived - at;
            self.gone = Some(self.gone.map_or((age, age), |(youngest, oldest)| (age.min(youngest), age.max(oldest))));
        }
        self.sent.retain(|id, _| is_left(id));
    }

    /// How old the oldest row is by uptime that was sent and is still there.
    fn oldest(&self) -> i64 {
        self.sent.values().map(|at| self.lived - at).max().unwrap_or(0)
    }
}

fn ms(time: i64) -> Duration {
    Duration::from_millis(u64::try_from(time).expect("no negative time"))
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn minutes_of_uptime_with_the_clock_at_the_same_second_purge_all_the_same() {
    // The first boot was the quickest: what was sent then looks a few seconds old whenever anybody looks.
    let mut life = Life::new().boot(10 * SECOND);
    life.send(300);
    for _ in 0..200 {
        life.wall = NOW;
        life = life.boot(15 * SECOND);
        life.pass(SECOND);
        life.send(27);
        life.pass(44 * SECOND);
        assert!(life.sent.len() < 300 + 27 * 100, "{} rows after boot {}", life.sent.len(), life.boot);
    }
    let (_, oldest) = life.gone.expect("rows were purged");
    assert!(oldest < 90 * MINUTE, "{oldest} ms: 15 s of each minute are known, and 10 minutes are kept");
}

#[test]
fn a_clock_that_stands_still_keeps_rows_for_the_retention_and_not_much_longer() {
    let mut life = Life::new().boot(20 * SECOND);
    for minute in 0..200 {
        life.pass(MINUTE);
        life.wall = NOW;
        life.send(20);
        assert!(life.oldest() < 2 * RETENTION + 6 * MINUTE, "{} ms in minute {minute}", life.oldest());
    }
    let (youngest, oldest) = life.gone.expect("rows were purged");
    assert!(youngest >= RETENTION && oldest <= 2 * RETENTION + 6 * MINUTE, "{youngest} to {oldest} ms");
}

/// Nor do two forwarders that take turns: what they know of it stands in the table.
#[test]
fn restarts_of_the_process_alone_lose_no_uptime() {
    let mut life = Life::new().boot(0);
    for _ in 0..1_000 {
        life = life.restart();
        life.pass(10 * SECOND);
        life.wall = NOW;
        life.send(5);
        assert!(life.oldest() < 2 * RETENTION + 4 * MINUTE, "{} ms", life.oldest());
    }
    assert!(life.gone.expect("rows were purged").0 >= RETENTION);
}

#[test]
fn steps_of_decades_at_any_moment_neither_stop_purging_nor_take_what_is_not_sent() {
    for seed in 1..=3 {
        println!("seed {seed}");
        let mut chance = seed;
        let mut life = Life::new().boot(20 * SECOND);
        let (mut parked, mut most) = (Vec::new(), 0);
        for _ in 0..400 {
            match random(&mut chance) % 8 {
                0 => life.wall = NOW + STEP,
                1 => life.wall = NOW - STEP,
                2 => life.wall += random(&mut chance) as i64 % RETENTION,
                3 => life.wall = NOW,
                4 if random(&mut chance) % 4 == 0 => life = life.boot(30 * SECOND),
                _ => {}
            }
            life.pass(MINUTE);
            let id = life.newest + 1;
            life.send(19);
            if random(&mut chance) % 10 == 0 {
                life.device.put_many(1);
                life.newest += 1;
                life.settle(&batch(&[(id + 19, failed("no"))]));
                parked.push(id + 19);
            }
            most = most.max(life.sent.len());
        }
        // 19 a minute for two eras, as much again until stragglers are gone over, and two bites.
        assert!(most < 19 * 40 + 200, "{most} rows");
        let kept = life.device.number("SELECT count(*) FROM outbox WHERE status = 'FAILED'");
        assert_eq!(kept, parked.len() as i64);
    }
}

/// The rows up to `last` are old by uptime, the wall clock stands still.
fn aged(last: i64) -> Life {
    let mut life = Life::new().boot(0);
    life.send(last);
    for _ in 0..2 {
        life.pass(RETENTION);
        life.wall = NOW;
        life.write_state();
        life.count_the_gone();
    }
    life
}

#[test]
fn a_row_that_waited_and_was_sent_only_now_stays_for_the_retention() {
    let mut life = Life::new().boot(0);
    life.device.put_many(400);
    life.settle(&batch(&[(7, held(Lane::Topic("t".into()))), (8, failed("no"))]));
    life.acknowledge((1..=400).filter(|id| *id != 7 && *id != 8));
    life.pass(RETENTION);
    life.wall = NOW;
    life.write_state();
    retry(&life.device.app, 8).expect("retries");
    life.acknowledge([7, 8].into_iter());
    life.pass(RETENTION);
    life.wall = NOW;
    life.write_state();
    let sent = life.device.number("SELECT count(*) FROM outbox WHERE status = 'SENT'");
    assert_eq!(sent, 3, "the two and the newest");
    assert_eq!(life.device.number("SELECT count(*) FROM outbox WHERE id = 7 OR id = 8"), 2);
}

#[test]
fn young_rows_among_old_ones_do_not_keep_them() {
    let some = vec![1, 2, 3, 50, 99, 100, 101, 102];
    for young in [vec![1], vec![100], some, (1..=90).collect(), (1..=90).chain(500..=560).collect()] {
        let mut life = Life::new().boot(0);
        life.device.put_many(1_000);
        life.newest = 1_000;
        let old: Vec<_> = (1..=1_000).filter(|id| !young.contains(id)).map(|id| (id, Fate::Sent)).collect();
        life.device.settle(NOW - 2 * RETENTION, &old);
        life.acknowledge(young.iter().copied());
        for _ in 0..5 {
            life.settle(&Batch::default());
        }
        assert_eq!(
            life.device.number("SELECT count(*) FROM outbox"),
            young.len() as i64 + 1,
            "{young:?} and the newest"
        );

        // They go themselves when they are old, if they are worth a bite.
        for _ in 0..2 {
            life.pass(RETENTION);
            life.settle(&Batch::default());
        }
        let left = if young.len() < 100 { young.len() as i64 } else { 0 };
        assert_eq!(life.device.number("SELECT count(*) FROM outbox"), left + 1, "{young:?} and the newest");
    }
}

#[test]
fn what_stands_in_the_state_may_be_anything() {
    for value in [i64::MIN, -1, 1, 999, 1_000, i64::MAX] {
        for column in ["era", "era_age", "uptime", "boot"] {
            let mut life = aged(500);
            assert_eq!(life.sent.len(), 1, "the newest is left");
            life.device.sql(&format!("UPDATE outbox_state SET {column} = {value}"));
            for _ in 0..60 {
                life.pass(MINUTE);
                life.wall = NOW;
                life.send(20);
            }
            assert!(life.sent.len() < 600, "{column} = {value}: {} rows", life.sent.len());
        }
    }
}

#[test]
fn extreme_stamps_and_clocks_are_old_or_young_and_nothing_worse() {
    for wall in [i64::MIN, 0, NOW, i64::MAX] {
        for stamp in [i64::MIN, -1, NOW, i64::MAX] {
            for retention in [Duration::ZERO, ms(RETENTION), Duration::MAX] {
                let mut life = Life::new().boot(0);
                (life.wall, life.retention) = (wall, retention);
                life.send(300);
                life.device.sql(&format!("UPDATE outbox SET status_at = {stamp}, created_at = {stamp}"));
                for _ in 0..3 {
                    life.write_state();
                }
                let left = life.device.number("SELECT count(*) FROM outbox");
                assert!(left == 300 || left == 1, "{left}");
                if retention.is_zero() || stamp > wall {
                    assert_eq!(left, 1, "{stamp} at {wall}, kept for {retention:?}");
                }
            }
        }
    }
}

#[test]
fn a_retention_of_a_century_keeps_everything_that_the_wall_clock_does() {
    let mut life = Life::new();
    life.retention = Duration::from_secs(100 * 365 * 24 * 3_600);
    for _ in 0..20 {
        life = life.boot(MINUTE);
        life.send(100);
    }
    assert_eq!(life.sent.len(), 2_000);
}

#[test]
fn rows_settled_by_hand_go_by_the_wall_clock() {
    for filler in ["NULL", "'...'"] {
        let mut life = Life::new().boot(0);
        life.device.put_many(300);
        life.device.sql(&format!("UPDATE outbox SET status = 'SENT', filler = {filler}, status_at = {NOW}"));
        life.newest = 300;
        for _ in 0..5 {
            life.pass(RETENTION);
            life.wall = NOW + RETENTION - 1;
            life.write_state();
        }
        assert_eq!(life.device.number("SELECT count(*) FROM outbox"), 300);
        life.wall = NOW + RETENTION;
        life.write_state();
        assert_eq!(life.device.number("SELECT count(*) FROM outbox"), 1);
    }
}

#[test]
fn the_state_is_written_with_what_is_written_anyway_or_once_in_a_retention() {
    let mut life = Life::new().boot(0);
    let state = |life: &Life| {
        life.device.text("SELECT era || ' ' || era_age || ' ' || uptime || ' ' || boot FROM outbox_state")
    };
    let mut writes = 0;
    let mut before = state(&life);
    for _ in 0..600 {
        life.pass(SECOND);
        life.wall = NOW;
        life.send(1);
        let now = state(&life);
        writes += i64::from(now != before);
        before = now;
    }
    assert!(writes <= 600 * SECOND / RETENTION, "{writes}");
}

/// Where there is no space, or purging fails, settlements are written without.
#[test]
fn a_row_bears_its_era_also_where_nothing_can_be_purged() {
    let mut life = Life::new().boot(0);
    life.device.put_many(3);
    life.device.settle(NOW, &[(1, Fate::Sent)]);
    life = life.restart();
    life.device.settle(NOW, &[(2, Fate::Sent)]);
    life = life.reopen();
    life.device.settle(NOW, &[(3, Fate::Sent)]);
    let fillers = life.device.text("SELECT group_concat(filler, ' ') FROM (SELECT filler FROM outbox ORDER BY id)");
    assert_eq!(fillers, "000 000 ...", "the last has not asked yet");
}
