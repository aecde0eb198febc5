//! The program under test: started, told, heard, killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::args::Args;

/// A row of `biz`, and what its message says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Reading {
    pub id: i64,
    pub k: i64,
    pub seq: i64,
}

impl Reading {
    /// What a payload says, if it is as it was written.
    pub fn of(payload: &[u8]) -> Option<Reading> {
        #[derive(Deserialize)]
        struct Payload {
            id: i64,
            k: i64,
            seq: i64,
            crc: u32,
        }
        let Payload { id, k, seq, crc } = serde_json::from_slice(payload).ok()?;
        (crc == crc32fast::hash(format!("{id} {k} {seq}").as_bytes())).then_some(Reading { id, k, seq })
    }

    /// What a message says, if it is as it was written, and where it belongs.
    pub fn read(topic: &str, payload: &[u8]) -> Result<Reading, String> {
        let reading = Reading::of(payload).filter(|reading| topic == format!("biz/{}", reading.k));
        reading.ok_or_else(|| format!("damaged: topic {topic:?}, payload {:?}", String::from_utf8_lossy(payload)))
    }
}

/// What the workload says: see its `--help`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Open,
    /// Of the commit that it says next: by a connection that does not sync.
    Normal(Reading),
    Commit(Reading),
    Maybe(Reading),
    Got(Reading),
    Damaged(String),
    Full,
    Reconnect,
    Drained,
}

impl Said {
    /// Whether its line begins with that word.
    pub fn is(&self, word: &str) -> bool {
        let own = match self {
            Said::Open => "OPEN",
            Said::Normal(_) => "NORMAL",
            Said::Commit(_) => "COMMIT",
            Said::Maybe(_) => "MAYBE",
            Said::Got(_) => "GOT",
            Said::Damaged(_) => "DAMAGED",
            Said::Full => "FULL",
            Said::Reconnect => "RECONNECT",
            Said::Drained => "DRAINED",
        };
        own == word
    }

    /// What a whole line says.
    pub fn parse(line: &str) -> Result<Said, String> {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let reading = || match rest[..] {
            [id, k, seq] => Some(Reading { id: id.parse().ok()?, k: k.parse().ok()?, seq: seq.parse().ok()? }),
            _ => None,
        };
        let said = match word {
            "OPEN" => Some(Said::Open),
            "NORMAL" => reading().map(Said::Normal),
            "COMMIT" => reading().map(Said::Commit),
            "MAYBE" => reading().map(Said::Maybe),
            "GOT" => reading().map(Said::Got),
            "DAMAGED" => Some(Said::Damaged(rest.join(" "))),
            "FULL" => Some(Said::Full),
            "RECONNECT" => Some(Said::Reconnect),
            "DRAINED" => Some(Said::Drained),
            _ => None,
        };
        said.ok_or_else(|| format!("the workload said {line:?}"))
    }
}

/// One life of it. Killed when it is dropped.
pub struct Workload {
    process: Child,
    says: Receiver<String>,
}

impl Workload {
    /// Its command, to which may be added before it is started.
    pub fn command(args: &Args, database: &Path, broker: &str, seed: u64) -> Command {
        let mut command = Command::new(&args.workload);
        command.arg("--db").arg(database).args(["--broker", broker, "--seed", &seed.to_string()]);
        command
    }

    pub fn start(command: &mut Command) -> Self {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.unwrap_or_else(|why| {
            let program = command.get_program().to_string_lossy().into_owned();
            panic!("{program}: {why}; build it: cargo build --release --example workload")
        });
        let mut lines = BufReader::new(process.stdout.take().expect("it was asked for"));
        let (tell, says) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A line that was cut off by a kill was not said.
            while lines.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
                if tell.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Workload { process, says }
    }

    /// What it says next; None when it has ended, or says nothing until then.
    pub fn hear(&self, until: Instant) -> Result<Option<Said>, String> {
        match self.says.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => Said::parse(&line).map(Some),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(None),
        }
    }

    /// What it says until `wanted` is among it, or that it was not by then.
    pub fn hear_until(
        &self,
        until: Instant,
        wanted: impl Fn(&Said) -> bool,
        mut note: impl FnMut(&Said),
    ) -> Result<bool, String> {
        while let Some(said) = self.hear(until)? {
            note(&said);
            if wanted(&said) {
                return Ok(true);
            }
            if Instant::now() >= until {
                break; // it talks faster than that is over
            }
        }
        Ok(false)
    }

    pub fn tell(&mut self, order: &str) {
        // It may be dead already, which shows soon enough.
        let _ = writeln!(self.process.stdin.as_mut().expect("it was asked for"), "{order}");
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it, and answers all that it had said and was not heard.
    pub fn kill(mut self) -> Result<Vec<Said>, String> {
        self.end()
    }

    /// The same for those who keep it.
    pub fn end(&mut self) -> Result<Vec<Said>, String> {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.says.iter().map(|line| Said::parse(&line)).collect()
    }

    /// Waits until it has ended by itself; None if it has not by then.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            match self.process.try_wait().expect("a child of ours") {
                None if Instant::now() < until => thread::sleep(Duration::from_millis(2)),
                ended => return ended,
            }
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
