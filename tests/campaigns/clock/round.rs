//! One database under one kind of clock: lives that are killed, and a last one that is judged.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::rusqlite::config::DbConfig;
use edge_outbox::rusqlite::{self, Connection};
use tempfile::TempDir;

use super::hands::{Hands, SECOND};
use crate::SOON;
use crate::args::Args;
use crate::arrivals::Arrivals;
use crate::audit::{self, Told};
use crate::chance::Chance;
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;
use crate::workload::{Said, Workload};

/// Between two jumps.
const JUMP_EVERY: Duration = Duration::from_millis(15);
const YEAR: i64 = 365 * 86_400;
const YEARS: (i64, i64) = (2, 110);
/// How long the link is cut at least, while messages are written.
const AWAY: Duration = Duration::from_millis(300);
/// No commit for so long: the writers have heard that they are to rest.
const AT_REST: Duration = Duration::from_millis(100);
/// What is promised after the link healed.
const DRAINED_WITHIN: Duration = Duration::from_secs(12);
const WINDOW: u64 = 16;
/// What one kill or reconnect may repeat: the window and what is settled together.
const REPEATED: u64 = WINDOW + 516;
const SETTINGS: &str = r#"{"window":16,"settle_after":"10ms","retention":"200ms",
    "reconnect":{"first":"5ms","longest":"20ms"},"reserve":0}"#;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Jumps,
    Stands,
    Boots,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Jumps => "jumps",
            Kind::Stands => "stands",
            Kind::Boots => "boots",
        }
    }
}

pub struct Round {
    pub kind: Kind,
    pub kills: u64,
    pub seed: u64,
}

/// What came of it, and how far it went.
#[derive(Default)]
pub struct Figures {
    kills: u64,
    reconnects: u64,
    readings: u64,
    again: u64,
    jumps: u64,
    /// Between the stamps of a table, the smallest of all rounds that jumped, in years.
    span: Option<i64>,
    /// The longest from healing to drained.
    drained: Duration,
    /// The most rows that stood in a table.
    rows: i64,
}

impl Figures {
    pub fn add(&mut self, other: &Figures) {
        self.kills += other.kills;
        self.reconnects += other.reconnects;
        self.readings += other.readings;
        self.again += other.again;
        self.jumps += other.jumps;
        self.span = [self.span, other.span].into_iter().flatten().min();
        self.drained = self.drained.max(other.drained);
        self.rows = self.rows.max(other.rows);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { kills, reconnects, readings, again, jumps, rows, .. } = self;
        write!(f, "{kills} kills, {reconnects} reconnects, {jumps} jumps of the clock")?;
        if let Some(span) = self.span {
            write!(f, " over {span} years and more")?;
        }
        let drained = self.drained.as_secs_f64();
        write!(f, "; {readings} messages, {again} of them again; drained {drained:.2} s after healing at the latest")?;
        write!(f, "; at most {rows} rows in a table")
    }
}

impl Round {
    pub fn play(&self, args: &Args, ours: bool) -> (Figures, Vec<String>) {
        let mut world = World::new(self, ours);
        let mut chance = Chance::seeded(self.seed);
        let result = thread::scope(|scope| {
            let over = (self.kind == Kind::Jumps).then(|| {
                let (over, until) = mpsc::channel();
                let (hands, jumps, seed) = (&world.hands, &world.jumps, self.seed);
                scope.spawn(move || jump(hands, jumps, seed, &until));
                over
            });
            world.stage.lives(self, args, &world.hands, &mut chance)?;
            world.stage.last(self, args, &world.hands, over)
        });
        let Stage { mut figures, mut broken, folder, .. } = world.stage;
        broken.extend(result.err());
        figures.jumps = world.jumps.into_inner();
        for broken in &mut broken {
            *broken = format!("{} from seed {}: {broken}", self.kind.name(), self.seed);
        }
        if args.keep && !broken.is_empty() {
            broken.push(format!("kept: {}", folder.keep().display()));
        }
        (figures, broken)
    }
}

/// Until the other end is dropped; the last time to where it all began.
fn jump(hands: &Hands, jumps: &AtomicU64, seed: u64, until: &mpsc::Receiver<()>) {
    let mut chance = Chance::seeded(!seed);
    let (first, last) = (YEARS.0 * YEAR, YEARS.1 * YEAR);
    while until.recv_timeout(JUMP_EVERY) == Err(RecvTimeoutError::Timeout) {
        hands.jump(first + chance.of(0..=(last - first) as usize) as i64);
        jumps.fetch_add(1, Ordering::Relaxed);
    }
    hands.jump(first);
}

struct World {
    hands: Hands,
    jumps: AtomicU64,
    stage: Stage,
}

impl World {
    fn new(round: &Round, ours: bool) -> Self {
        let hands = Hands::new(ours).expect("it was there a moment ago");
        match round.kind {
            Kind::Jumps => hands.jump(YEARS.0 * YEAR),
            Kind::Stands => hands.stand(),
            Kind::Boots => hands.boot(),
        }
        let broker = Mosquitto::start();
        let stage = Stage {
            arrivals: Arrivals::at(&broker),
            proxy: Proxy::to(broker.port()),
            _broker: broker,
            folder: tempfile::tempdir().unwrap(),
            told: Told::default(),
            figures: Figures::default(),
            stamps: None,
            broken: Vec::new(),
        };
        World { hands, jumps: AtomicU64::new(0), stage }
    }
}

struct Stage {
    proxy: Proxy,
    arrivals: Arrivals,
    _broker: Mosquitto,
    folder: TempDir,
    told: Told,
    figures: Figures,
    /// The earliest and the latest that stood in the table, in seconds since 1970.
    stamps: Option<(i64, i64)>,
    broken: Vec<String>,
}

impl Stage {
    fn database(&self) -> PathBuf {
        self.folder.path().join("device.db")
    }

    fn start(&self, round: &Round, args: &Args, hands: &Hands, seed: u64) -> Workload {
        if round.kind == Kind::Boots {
            hands.boot();
        }
        let url = format!("mqtt://127.0.0.1:{}", self.proxy.port());
        let mut command = Workload::command(args, &self.database(), &url, seed);
        hands.preload(command.args(["--settings", SETTINGS]));
        let workload = Workload::start(&mut command);
        hands.wait_for(workload.pid());
        workload
    }

    fn lives(&mut self, round: &Round, args: &Args, hands: &Hands, chance: &mut Chance) -> Result<(), String> {
        for life in 0..round.kills {
            let mut workload = self.start(round, args, hands, round.seed.wrapping_add(life));
            let end = Instant::now() + chance.ms(8..=120);
            if chance.one_in(3) {
                let interrupted = Instant::now() + chance.ms(8..=100);
                self.hear(&workload, interrupted.min(end), |_| false)?;
                self.proxy.hiccup();
            }
            self.hear(&workload, end, |_| false)?;
            let pid = workload.pid();
            if let Some(status) = workload.wait(Duration::ZERO) {
                return Err(format!("life {life} ended by itself with {status}"));
            }
            workload.kill()?.iter().for_each(|said| self.told.note(said));
            hands.bury(pid);
            self.figures.kills += 1;
            self.look().map_err(|error| format!("after life {life}: {error}"))?;
        }
        Ok(())
    }

    /// Notes what it says until then, or until it says what is waited for.
    fn hear(&mut self, workload: &Workload, until: Instant, wanted: impl Fn(&Said) -> bool) -> Result<bool, String> {
        workload.hear_until(until, wanted, |said| self.told.note(said))
    }

    fn wait_for(&mut self, workload: &Workload, within: Duration, wanted: Said) -> Result<(), String> {
        let heard = self.hear(workload, Instant::now() + within, |said| *said == wanted)?;
        heard.then_some(()).ok_or_else(|| format!("it did not say {wanted:?} within {within:?}"))
    }

    /// What the table tells between two lives, whose log is left as it is.
    fn look(&mut self) -> rusqlite::Result<()> {
        let sql = Connection::open(self.database())?;
        sql.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        if number(&sql, "SELECT count(*) FROM sqlite_schema WHERE name = 'outbox'")? == 0 {
            return Ok(());
        }
        let rows = number(&sql, "SELECT count(*) FROM outbox")?;
        self.figures.rows = self.figures.rows.max(rows);
        if rows > 0 {
            let earliest = number(&sql, "SELECT min(created_at) / 1000 FROM outbox")?;
            let latest = number(&sql, "SELECT max(created_at) / 1000 FROM outbox")?;
            let before = self.stamps.unwrap_or((earliest, latest));
            self.stamps = Some((before.0.min(earliest), before.1.max(latest)));
        }
        Ok(())
    }

    /// The last life, and the judgement. `over`: dropped, the clock jumps no more.
    fn last(
        &mut self,
        round: &Round,
        args: &Args,
        hands: &Hands,
        over: Option<mpsc::Sender<()>>,
    ) -> Result<(), String> {
        let mut workload = self.start(round, args, hands, round.seed.wrapping_sub(1));
        let pid = workload.pid();
        let result = self.heal_and_drain(&mut workload, over);
        // Also where it went wrong, what had been said counts.
        workload.kill()?.iter().for_each(|said| self.told.note(said));
        hands.bury(pid);
        result?;
        self.judge(round).map_err(|error| error.to_string())
    }

    fn heal_and_drain(&mut self, workload: &mut Workload, over: Option<mpsc::Sender<()>>) -> Result<(), String> {
        self.wait_for(workload, SOON, Said::Open)?;
        for _ in 0..100 {
            let commits = self.hear(workload, Instant::now() + SOON, |said| matches!(said, Said::Commit(_)))?;
            commits.then_some(()).ok_or("nothing is committed any more")?;
        }
        self.proxy.cut();
        self.hear(workload, Instant::now() + AWAY, |_| false)?;
        workload.tell("drain");
        // From here on nothing but its own waits makes it go on.
        while self.hear(workload, Instant::now() + AT_REST, |said| matches!(said, Said::Commit(_)))? {}
        drop(over);
        self.proxy.heal();
        let healed = Instant::now();
        self.wait_for(workload, DRAINED_WITHIN, Said::Drained)?;
        self.figures.drained = healed.elapsed();
        self.look().map_err(|error| error.to_string())?;

        workload.tell("write");
        self.wait_until_purged(workload)?;
        workload.tell("drain");
        self.wait_for(workload, DRAINED_WITHIN, Said::Drained)
    }

    /// All that stands in the table now has been sent, and is to go, since more is sent.
    fn wait_until_purged(&mut self, workload: &Workload) -> Result<(), String> {
        let sql = Connection::open(self.database()).map_err(|error| error.to_string())?;
        let ask = |what: &str| number(&sql, what).map_err(|error| error.to_string());
        let newest = ask("SELECT max(id) FROM outbox")?;
        let until = Instant::now() + SOON;
        while ask("SELECT min(id) FROM outbox")? <= newest {
            if Instant::now() >= until {
                let left = ask("SELECT count(*) FROM outbox")?;
                return Err(format!("rows that were sent are not purged within {SOON:?}: {left} stand there"));
            }
            self.hear(workload, Instant::now() + JUMP_EVERY, |_| false)?;
        }
        Ok(())
    }

    fn judge(&mut self, round: &Round) -> rusqlite::Result<()> {
        let database = self.database();
        let sql = Connection::open(&database)?;
        let stands = audit::readings(&sql)?;
        self.arrivals.wait_for(&stands);
        self.arrivals.catch_up();
        let arrived = &self.arrivals.readings;
        let interruptions = self.figures.kills + 1 + self.told.reconnects;
        self.broken.append(&mut self.arrivals.damaged);
        self.broken.extend(audit::durable(&self.told, &stands));
        // Of each life the one thread that writes may have committed once, and not told of it.
        self.broken.extend(audit::announced(&self.told, &stands, self.figures.kills as usize + 1));
        self.broken.extend(audit::delivered(&stands, arrived));
        self.broken.extend(audit::repeated(arrived, interruptions, REPEATED));
        let failed = number(&sql, "SELECT count(*) FROM outbox WHERE status = 'FAILED'")?;
        if failed > 0 {
            self.broken.push(format!("{failed} rows are FAILED"));
        }
        drop(sql);
        self.broken.extend(audit::sound(&database));
        self.figures.reconnects = self.told.reconnects;
        self.figures.readings = stands.len() as u64;
        self.figures.again = audit::repeats(arrived);
        let seen = self.seen(round);
        self.broken.extend(seen.err());
        Ok(())
    }

    /// Whether the workload's clock did what it was to do.
    fn seen(&mut self, round: &Round) -> Result<(), String> {
        let (earliest, latest) = self.stamps.ok_or("no stamp was seen")?;
        let as_wanted = match round.kind {
            Kind::Jumps => {
                self.figures.span = Some((latest - earliest) / YEAR);
                latest - earliest > 50 * YEAR
            }
            Kind::Stands => (earliest, latest) == (SECOND, SECOND),
            // A life lasts no longer than this, the last one and the slowest machine included.
            Kind::Boots => earliest >= SECOND && latest < SECOND + 300,
        };
        as_wanted.then_some(()).ok_or_else(|| {
            format!("the clock did not obey, so nothing was proven: stamps from {earliest} to {latest} s since 1970")
        })
    }
}

fn number(sql: &Connection, what: &str) -> rusqlite::Result<i64> {
    sql.busy_timeout(SOON)?;
    sql.query_row(what, [], |row| row.get(0))
}
