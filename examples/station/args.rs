//! What the station is told on the command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;
use tempfile::TempDir;

const HELP: &str = "\
A weather station on a bad link: it writes readings and enqueues them, its link
breaks twice, and at the end it audits what arrived. Exits with 1 if anything
is missing, too much or out of order.

Usage: station [--broker URL] [--db PATH] [--seconds N] [--keep]

  --broker URL   deliver to this MQTT broker, for example mqtt://localhost:1883;
                 without it, to a broker within the process
  --db PATH      the database; without it, a new one in a temporary folder
  --seconds N    how long the sensors measure, 5 to 3600 s; 10 by default
  --keep         keep the temporary folder, to look into the database

RUST_LOG=edge_outbox=debug shows what the outbox does.";

/// The command line, checked.
pub struct Args {
    pub broker: Option<String>,
    pub db: Option<PathBuf>,
    pub duration: Duration,
    pub keep: bool,
}

impl Args {
    /// None if only help was asked for.
    pub fn parse() -> Result<Option<Args>, lexopt::Error> {
        let mut args = Args { broker: None, db: None, duration: Duration::from_secs(10), keep: false };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("broker") => args.broker = Some(parser.value()?.string()?),
                Long("db") => args.db = Some(parser.value()?.into()),
                Long("seconds") => match parser.value()?.parse()? {
                    seconds @ 5..=3600 => args.duration = Duration::from_secs(seconds),
                    seconds => return Err(format!("--seconds is {seconds}; 5 to 3600 are allowed").into()),
                },
                Long("keep") => args.keep = true,
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(args))
    }

    /// Whether the database is still there when the station has ended.
    pub fn keeps_database(&self) -> bool {
        self.keep || self.db.is_some()
    }

    /// The database's file, and the folder that goes with it when it is dropped.
    pub fn database(&self) -> std::io::Result<(PathBuf, Option<TempDir>)> {
        if let Some(db) = &self.db {
            return Ok((db.clone(), None));
        }
        let folder = tempfile::Builder::new().prefix("station-").disable_cleanup(self.keep).tempdir()?;
        Ok((folder.path().join("station.db"), Some(folder)))
    }
}
