//! One database, and the lives that the workload has on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::rusqlite::{Connection, OpenFlags};

use super::DRAINED_WITHIN;
use crate::SOON;
use crate::args::Args;
use crate::audit::{self, Told};
use crate::workload::{Said, Workload};

/// Beside the window, what an interruption may repeat.
const REPEATED: u64 = 516;

/// A database that the workload has, and what it said in all its lives.
pub struct Database<'a> {
    pub args: &'a Args,
    pub file: PathBuf,
    pub told: Told,
    pub writers: usize,
    pub window: u64,
    pub settings: String,
    pub synchronous: &'static str,
    /// Further arguments of lives that write.
    pub more: Vec<String>,
    /// Lives that were ended: each may repeat something, and have committed what nobody heard of.
    pub kills: u64,
    /// What it said to standard error, of all lives.
    log: PathBuf,
}

impl<'a> Database<'a> {
    /// `outside`: a folder that does not fail.
    pub fn new(args: &'a Args, folder: &Path, outside: &Path) -> Self {
        Database {
            args,
            file: folder.join("device.db"),
            told: Told::default(),
            writers: 1,
            window: 256,
            settings: "{}".to_owned(),
            synchronous: "full",
            more: Vec::new(),
            kills: 0,
            log: outside.join("stderr"),
        }
    }

    fn command(&self, seed: u64) -> Command {
        let mut command = Workload::command(self.args, &self.file, "in-process", seed);
        command.args(["--settings", &self.settings, "--synchronous", self.synchronous]).args(&self.more);
        if let Ok(log) = File::options().create(true).append(true).open(&self.log) {
            command.stderr(log);
        }
        command
    }

    /// It ends by itself, should this program be killed.
    pub fn start(&self, seed: u64, prepare: impl FnOnce(&mut Command)) -> Workload {
        let mut command = self.command(seed);
        command.args(["--writers", &self.writers.to_string(), "--seconds", "200"]);
        prepare(&mut command);
        Workload::start(&mut command)
    }

    /// Notes what it says until that is among it.
    ///
    /// # Errors
    /// That it was not, by then, or the process ended.
    pub fn hear(&mut self, from: &Workload, within: Duration, word: &str) -> Result<(), String> {
        let wanted = |said: &Said| said.is(word);
        let heard = from.hear_until(Instant::now() + within, wanted, |said| self.told.note(said))?;
        if heard { Ok(()) } else { Err(format!("no {word} within {within:?}{}", self.last_words())) }
    }

    /// Notes what it says for so long.
    pub fn listen(&mut self, to: &Workload, time: Duration) -> Result<Vec<Said>, String> {
        let mut all = Vec::new();
        to.hear_until(
            Instant::now() + time,
            |_| false,
            |said| {
                self.told.note(said);
                all.push(said.clone());
            },
        )?;
        Ok(all)
    }

    /// Notes what it had said and was not heard.
    pub fn catch_up(&mut self, with: &Workload) -> Result<(), String> {
        while let Some(said) = with.hear(Instant::now())? {
            self.told.note(&said);
        }
        Ok(())
    }

    /// All is sent, by the process that had the trouble.
    pub fn drains(&mut self, workload: &mut Workload, within: Duration) -> Result<(), String> {
        self.catch_up(workload)?;
        workload.tell("drain");
        self.hear(workload, within, "DRAINED").map_err(|why| format!("the same process does not go on: {why}"))
    }

    /// All is written down, by the same process: what the broker has is SENT.
    pub fn settles(&self, within: Duration) -> Result<(), String> {
        let until = Instant::now() + within;
        let connection = Connection::open_with_flags(&self.file, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.map_err(|why| format!("cannot look whether it settles: {why}"))?;
        loop {
            let pending = "SELECT count(*) FROM outbox WHERE status = 'PENDING'";
            let pending: i64 = connection.query_row(pending, [], |row| row.get(0)).map_err(|why| why.to_string())?;
            match pending {
                0 => return Ok(()),
                _ if Instant::now() >= until => {
                    return Err(format!("{pending} rows arrived, and are not SENT after {within:?}"));
                }
                _ => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    pub fn kill(&mut self, workload: Workload) -> Result<(), String> {
        self.kills += 1;
        for said in workload.kill()? {
            self.told.note(&said);
        }
        Ok(())
    }

    /// Another process sends the rest.
    pub fn drain_again(&mut self) -> Result<(), String> {
        let mut command = self.command(0);
        command.args(["--drain", "--seconds", &DRAINED_WITHIN.as_secs().to_string()]);
        let mut workload = Workload::start(&mut command);
        let ended = workload.wait(SOON);
        for said in workload.kill()? {
            self.told.note(&said);
        }
        match ended {
            Some(ended) if ended.success() => Ok(()),
            ended => Err(format!("the next process does not drain: {ended:?}{}", self.last_words())),
        }
    }

    /// What stands, when all is sent: nobody has it open.
    pub fn judge(&self) -> Vec<String> {
        let stands = Connection::open(&self.file).and_then(|connection| audit::readings_if_any(&connection));
        let stands = match stands {
            Ok(stands) => stands,
            Err(why) => return vec![format!("the table cannot be read: {why}")],
        };
        let mut broken = audit::sound(&self.file);
        broken.extend(audit::durable(&self.told, &stands));
        broken.extend(audit::dense(&stands));
        let unheard = self.writers * self.kills as usize;
        broken.extend(audit::announced(&self.told, &stands, unheard));
        broken.extend(audit::delivered(&stands, &self.told.got));
        broken.extend(audit::intact(&self.told));
        broken.extend(audit::repeated(&self.told.got, self.kills + self.told.reconnects, self.window + REPEATED));
        broken
    }

    /// The last that it said to standard error.
    pub fn last_words(&self) -> String {
        let words = fs::read_to_string(&self.log).unwrap_or_default();
        words.lines().last().map_or_else(String::new, |last| format!("; it said {last:?}"))
    }

    /// All that it has said to standard error, in lines.
    pub fn complaints(&self) -> Vec<String> {
        fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}
