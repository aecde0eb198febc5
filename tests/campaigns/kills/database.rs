//! The history of one database: lives that are killed, and a last one of each chapter that is let to finish.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::rusqlite::Connection;
use tempfile::TempDir;

use super::evidence::Evidence;
use super::fault::{self, Storm};
use super::shore::Shore;
use super::tally::Tally;
use crate::SOON;
use crate::args::Args;
use crate::audit;
use crate::chance::Chance;
use crate::proxy::Proxy;
use crate::workload::{Reading, Said, Workload};

/// From the healing of the network on: the promise.
pub const DRAINED_WITHIN: Duration = Duration::from_secs(12);
/// A drain that takes longer is told of.
const WORTH_A_WORD: Duration = Duration::from_secs(5);
/// The faults of a last life catch up with the kills for so long at most.
const CATCH_UP: Duration = Duration::from_secs(10);
const KEYS: usize = 8;
/// Threads that write in one life, at most.
const WRITERS: usize = 4;

/// What is drawn for a database.
#[derive(Debug)]
pub struct Plan {
    pub mosquitto: bool,
    pub protocol: &'static str,
    pub window: usize,
    pub ordering: &'static str,
    /// In milliseconds, like `retention`.
    pub settle_after: u64,
    pub retention: u64,
    pub seed: u64,
}

impl Plan {
    pub fn draw(chance: &mut Chance, mosquitto: bool) -> Self {
        Plan {
            mosquitto,
            protocol: chance.pick(&["5", "3.1.1"]),
            window: chance.pick(&[16, 64]),
            ordering: if chance.one_in(4) { "strict" } else { "per-key" },
            settle_after: chance.pick(&[0, 10, 100, 1_000]),
            retention: chance.pick(&[0, 50, 1_000]),
            seed: chance.of(0..=usize::MAX >> 16) as u64,
        }
    }

    /// Short waits, so that much happens in a short life.
    fn settings(&self) -> String {
        let Plan { window, ordering, settle_after, retention, .. } = self;
        let backoff = r#"{"first":"2ms","longest":"50ms"}"#;
        format!(
            r#"{{"window":{window},"ordering":"{ordering}","settle_after":"{settle_after}ms","retention":"{retention}ms",
            "ack_timeout":"1s","reconnect":{backoff},"retry":{backoff},"max_attempts":1000,"poll_interval":"5ms"}}"#
        )
    }
}

pub struct Database<'a> {
    args: &'a Args,
    plan: &'a Plan,
    folder: TempDir,
    shore: Shore,
    chance: Chance,
    lives: u64,
    /// What is known about it.
    pub evidence: Evidence,
    /// So much of it is drained.
    drained: BTreeSet<Reading>,
    drained_within: Duration,
}

impl<'a> Database<'a> {
    pub fn new(args: &'a Args, plan: &'a Plan) -> Self {
        let folder = tempfile::Builder::new().prefix("kills-").tempdir().expect("a temporary folder");
        let shore = if plan.mosquitto { Shore::mosquitto() } else { Shore::recorder() };
        let evidence = Evidence { window: plan.window as u64, ..Evidence::default() };
        Database {
            args,
            plan,
            folder,
            shore,
            chance: Chance::seeded(plan.seed),
            lives: 0,
            evidence,
            drained: BTreeSet::new(),
            drained_within: DRAINED_WITHIN,
        }
    }

    /// For the controls, which wait for what will not come.
    pub fn impatient(self, drained_within: Duration) -> Self {
        Database { drained_within, ..self }
    }

    /// So many kills, and a life that is let to finish once all is well; then the judge. Answers what was broken.
    ///
    /// `sabotage` may do to the network what nobody heals.
    pub fn chapter(&mut self, kills: u64, tally: &mut Tally, sabotage: impl Fn(&Proxy)) -> Vec<String> {
        let proxy = Proxy::to(self.shore.port());
        let storm_seed = self.chance.of(0..=usize::MAX >> 16) as u64;
        let mut storm = Storm::new(Chance::seeded(storm_seed), KEYS, self.plan.protocol == "5");
        let mut broken = Vec::new();
        for _ in 1..kills {
            let life = Instant::now() + self.life();
            let mut workload = self.start(&proxy);
            self.weather(&mut storm, &proxy, life, tally, |_| true);
            broken.extend(self.kill(&mut workload, tally));
            if !broken.is_empty() {
                return broken;
            }
        }
        broken.extend(self.last_life(&mut storm, &proxy, tally, sabotage));
        if broken.is_empty() {
            broken.extend(self.drain(&proxy));
        }
        self.read_up(&proxy, &mut broken);
        broken.extend(self.evidence.judge());
        let connection = Connection::open(self.path());
        let settled = connection.and_then(|connection| audit::settled(&connection));
        broken.extend(settled.unwrap_or_else(|why| vec![format!("the outbox cannot be read: {why}")]));
        broken.extend(audit::sound(&self.path()));
        self.drained.clone_from(&self.evidence.stands);
        broken
    }

    /// From the eighth millisecond on, mostly short.
    fn life(&mut self) -> Duration {
        match self.chance.of(1..=100) {
            1..=80 => self.chance.ms(8..=70),
            81..=98 => self.chance.ms(20..=200),
            _ => self.chance.ms(500..=2_500),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("database")
    }

    fn start(&mut self, proxy: &Proxy) -> Workload {
        let mut command = self.command(proxy);
        let writers = self.chance.of(1..=WRITERS);
        self.evidence.writers += writers;
        command.args(["--writers", &writers.to_string()]);
        if self.chance.one_in(3) {
            command.args(["--rate", &self.chance.of(50..=1_000).to_string()]);
        }
        if self.chance.one_in(4) {
            command.args(["--max-pending", &self.chance.of(20..=2_000).to_string()]);
        }
        Workload::start(&mut command)
    }

    fn command(&mut self, proxy: &Proxy) -> Command {
        self.lives += 1;
        let url = format!("mqtt://127.0.0.1:{}?protocol={}&connect_timeout=1s", proxy.port(), self.plan.protocol);
        let seed = self.plan.seed.wrapping_add(self.lives);
        let mut command = Workload::command(self.args, &self.path(), &url, seed);
        command.args(["--settings", &self.plan.settings()]);
        let errors = File::options().create(true).append(true).open(self.folder.path().join("stderr"));
        command.stderr(errors.expect("a file in a folder of ours"));
        command
    }

    /// Bad weather until then, or until enough.
    fn weather(
        &mut self,
        storm: &mut Storm,
        proxy: &Proxy,
        until: Instant,
        tally: &mut Tally,
        go_on: impl Fn(&Tally) -> bool,
    ) {
        while Instant::now() < until && go_on(tally) {
            thread::sleep(storm.due().min(until).saturating_duration_since(Instant::now()));
            tally.hit(storm.step(proxy));
        }
    }

    /// A life that must have sent everything soon after the network is healed.
    fn last_life(
        &mut self,
        storm: &mut Storm,
        proxy: &Proxy,
        tally: &mut Tally,
        sabotage: impl Fn(&Proxy),
    ) -> Vec<String> {
        let mut workload = self.start(proxy);
        let now = Instant::now();
        let at_least = now + self.chance.ms(300..=1_500);
        self.weather(storm, proxy, at_least, tally, |_| true);
        self.weather(storm, proxy, now + CATCH_UP, tally, Tally::is_calm);
        tally.hit(storm.end(proxy));
        tally.hit(storm.part(proxy, &fault::SILENT));
        sabotage(proxy);
        let mut broken = self.healed(&mut workload, proxy, tally);
        if broken.is_empty() {
            workload.tell("write");
            tally.hit(storm.part(proxy, &fault::ABRUPT));
            broken = self.healed(&mut workload, proxy, tally);
        }
        broken.extend(self.kill(&mut workload, tally));
        broken
    }

    /// From now on all is well, and it must not take long.
    fn healed(&mut self, workload: &mut Workload, proxy: &Proxy, tally: &mut Tally) -> Vec<String> {
        workload.tell("drain");
        let healed = Instant::now();
        let so_far = || proxy.look(|traffic| (traffic.published.len(), traffic.connections));
        let (sent, connections) = so_far();
        let mut broken = Vec::new();
        loop {
            match workload.hear(healed + self.drained_within) {
                Ok(Some(Said::Drained)) => break,
                Ok(Some(said)) => self.evidence.told.note(&said),
                Ok(None) => {
                    let within = healed.elapsed().as_secs_f64();
                    broken.push(format!("not drained {within:.1} s after the network was healed: {}", self.pending()));
                    break;
                }
                Err(strange) => self.evidence.strange.push(strange),
            }
        }
        tally.drains += 1;
        let took = healed.elapsed();
        if took > WORTH_A_WORD && broken.is_empty() {
            let (sent, connections) = (so_far().0 - sent, so_far().1 - connections);
            let took = took.as_secs_f64();
            println!("kills: {took:.1} s to drain: {sent} messages on {connections} new connections, {:?}", self.plan);
        }
        tally.longest_drain = tally.longest_drain.max(took);
        broken
    }

    /// What was acknowledged, and not written down before the kill, goes once more; then it ends in peace, and owes
    /// nothing to anybody.
    fn drain(&mut self, proxy: &Proxy) -> Vec<String> {
        let mut command = self.command(proxy);
        let mut workload = Workload::start(command.arg("--drain"));
        let ended = workload.wait(SOON);
        match workload.end() {
            Ok(said) => said.iter().for_each(|said| self.evidence.told.note(said)),
            Err(strange) => self.evidence.strange.push(strange),
        }
        match ended {
            Some(status) if status.success() => Vec::new(),
            Some(status) => vec![format!("--drain ended with {status}; it said: {}", self.last_words())],
            None => vec![format!("--drain did not end within {SOON:?}: {}", self.pending())],
        }
    }

    fn kill(&mut self, workload: &mut Workload, tally: &mut Tally) -> Vec<String> {
        let ended = workload.wait(Duration::ZERO);
        self.evidence.kills += 1;
        tally.kills += 1;
        tally.kills_mosquitto += u64::from(self.plan.mosquitto);
        match workload.end() {
            Ok(said) => said.iter().for_each(|said| self.evidence.told.note(said)),
            Err(strange) => self.evidence.strange.push(strange),
        }
        match ended {
            Some(status) => vec![format!("the program ended by itself: {status}; it said: {}", self.last_words())],
            None => Vec::new(),
        }
    }

    /// The witnesses are heard, nobody runs any more.
    fn read_up(&mut self, proxy: &Proxy, broken: &mut Vec<String>) {
        let read = |message: &crate::proxy::Published| Reading::read(&message.topic, &message.payload);
        let (sent, delayed): (Vec<_>, Vec<_>) =
            proxy.look(|t| (t.published.iter().map(read).collect(), t.delayed().map(read).collect()));
        let Evidence { strange, sent: all_sent, delayed: all_delayed, arrived: all_arrived, .. } = &mut self.evidence;
        let mut sort = |from: Vec<Result<Reading, String>>, to: &mut Vec<Reading>| {
            for one in from {
                match one {
                    Ok(reading) => to.push(reading),
                    Err(damaged) => strange.push(damaged),
                }
            }
        };
        let before = all_sent.len();
        sort(sent, all_sent);
        sort(delayed, all_delayed);
        sort(self.shore.arrived(), all_arrived);
        let again: Vec<Reading> = all_sent[before..].iter().filter(|one| self.drained.contains(one)).copied().collect();
        self.evidence.sent_again.extend(again);
        if let Some(panic) = self.errors().lines().find(|line| line.contains("panicked")) {
            self.evidence.strange.push(format!("the program panicked: {panic}"));
        }
        match Connection::open(self.path()).and_then(|connection| audit::readings(&connection)) {
            Ok(stands) => self.evidence.stands = stands,
            Err(why) => broken.push(format!("the table cannot be read: {why}")),
        }
    }

    fn pending(&self) -> String {
        let count = "SELECT count(*), min(id), max(id) FROM outbox WHERE status = 'PENDING'";
        let words = |row: &edge_outbox::rusqlite::Row<'_>| {
            let (count, first, last): (i64, Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(format!("{count} pending, ids {first:?} to {last:?}"))
        };
        let found = Connection::open(self.path()).and_then(|connection| connection.query_row(count, [], words));
        found.unwrap_or_else(|why| why.to_string())
    }

    fn errors(&self) -> String {
        let bytes = fs::read(self.folder.path().join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn last_words(&self) -> String {
        self.errors().lines().rev().take(3).collect::<Vec<_>>().join(" | ")
    }

    /// Leaves what is known behind, if that is wanted; answers where.
    pub fn keep(self) -> String {
        if !self.args.keep {
            return "the folder is kept with --keep".to_owned();
        }
        let folder: &Path = &self.folder.keep();
        for (name, page) in self.evidence.pages() {
            // What was broken is worth more than what cannot be written about it.
            let _ = fs::write(folder.join(name), page);
        }
        format!("kept in {}", folder.display())
    }
}
