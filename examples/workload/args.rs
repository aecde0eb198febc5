//! What the workload is told on the command line.

use std::path::PathBuf;
use std::time::Duration;

use edge_outbox::{Backoff, Settings};
use lexopt::prelude::*;

const HELP: &str = "\
A program on a device, for those who test the outbox from outside: kill it, cut
its power, break its network, fill its disk, and judge by what it said.

It writes rows into its table biz(id INTEGER PRIMARY KEY, k INTEGER, seq
INTEGER) and, in the same transaction, a message to the topic biz/<k> with the
key <k> and the payload {\"id\":…,\"k\":…,\"seq\":…,\"crc\":…}; about one transaction in
ten rolls back. seq counts up for each k, without gaps among what is committed;
crc is the CRC-32 of the text \"<id> <k> <seq>\".

Usage: workload --db FILE --broker URL --seed N [OPTIONS]

  --db FILE            the database; created if it is not there
  --broker URL         mqtt://host:port, with parameters as the documentation of
                       the crate has them; or in-process, where each message
                       that arrives is told: GOT id k seq
  --seed N             decides what is written; 0 by default
  --keys K             k is 0 to K-1; 1 to 10000, 8 by default
  --writers W          threads that write; 1 to 64, 1 by default
  --rate R             transactions a second, of all writers together; by default
                       as many as there can be
  --seconds S          ends after so long, with 0; by default it goes on for ever
  --synchronous MODE   full (the default), normal, or mixed: every second
                       connection normal; off loses what was committed when the
                       power is cut, to see that whoever tests for it notices
  --checkpoint N       each writer moves the write-ahead log into the database after
                       every N of its transactions; by default only the outbox does
  --max-pending N      messages that may be pending; no limit by default
  --settings JSON      of the outbox, e.g. {\"window\":16,\"settle_after\":\"10ms\"};
                       without it a disk may be filled to the last byte
                       (keep_free 0), 1 MiB of it is in reserve, and whoever
                       breaks its network need not wait for long: the broker is
                       looked for every second, and so is what it refused for
                       now; an answer is waited for 2 s (ack_timeout), and so
                       is a connection where the URL says nothing else
  --drain              forwards, and writes nothing; ends with 0 once nothing is
                       pending, with 3 if --seconds are over before

It says, one a line, each flushed:

  OPEN                 the outbox is open, and its table there
  COMMIT id k seq      after a commit has returned
  NORMAL id k seq      with mixed, in front of that: by a connection that is normal
  MAYBE id k seq       a commit answered an error: it may be there or not
  FULL                 the outbox takes no more for now; it tries again
  RECONNECT            a session is begun anew, after one that ended or failed
  DRAINED              nothing is pending

A line `drain` on its standard input stops the writers until a line `write`, and
DRAINED is said in between; after `pause` nothing is sent until `resume`. Any
other error goes to standard error, and it goes on; only where the outbox cannot
be opened, or does not come to its end within ten seconds, it ends with 1.";

/// The command line, checked.
pub struct Args {
    pub db: PathBuf,
    pub broker: String,
    pub seed: u64,
    pub keys: i64,
    pub writers: u64,
    pub rate: Option<f64>,
    pub duration: Option<Duration>,
    pub synchronous: Synchronous,
    pub checkpoint: Option<u64>,
    pub settings: Settings,
    pub drain: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    Full,
    Normal,
    Mixed,
    Off,
}

impl Args {
    /// None if only help was asked for.
    pub fn parse() -> Result<Option<Args>, lexopt::Error> {
        let (mut db, mut broker, mut max_pending) = (None, None, None);
        let mut args = Args {
            db: PathBuf::new(),
            broker: String::new(),
            seed: 0,
            keys: 8,
            writers: 1,
            rate: None,
            duration: None,
            synchronous: Synchronous::Full,
            checkpoint: None,
            settings: for_tests(),
            drain: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("db") => db = Some(PathBuf::from(parser.value()?)),
                Long("broker") => broker = Some(parser.value()?.string()?),
                Long("seed") => args.seed = parser.value()?.parse()?,
                Long("keys") => args.keys = number("keys", &mut parser, 10_000)? as i64,
                Long("writers") => args.writers = number("writers", &mut parser, 64)?,
                Long("rate") => args.rate = Some(positive("rate", &mut parser)?),
                Long("seconds") => args.duration = Some(Duration::from_secs_f64(positive("seconds", &mut parser)?)),
                Long("synchronous") => args.synchronous = parser.value()?.parse_with(synchronous)?,
                Long("checkpoint") => args.checkpoint = Some(number("checkpoint", &mut parser, u64::MAX)?),
                Long("max-pending") => max_pending = Some(number("max-pending", &mut parser, u64::MAX)?),
                Long("settings") => args.settings = parser.value()?.parse_with(|text| serde_json::from_str(text))?,
                Long("drain") => args.drain = true,
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(arg.unexpected()),
            }
        }
        args.db = db.ok_or("--db FILE is missing: which database?")?;
        args.broker = broker.ok_or("--broker URL is missing: mqtt://host:port, or in-process")?;
        args.settings.max_pending = max_pending.or(args.settings.max_pending);
        Ok(Some(args))
    }
}

/// A disk is to be full only when it is, also one of a few megabytes; and once a network is well again, everything is to
/// go within seconds. A device would rather take the defaults, which spare the link.
fn for_tests() -> Settings {
    let soon = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };
    Settings {
        keep_free: 0,
        reserve: 1 << 20,
        ack_timeout: Duration::from_secs(2),
        reconnect: soon,
        retry: soon,
        max_attempts: 1_000,
        ..Settings::default()
    }
}

fn number(name: &str, parser: &mut lexopt::Parser, most: u64) -> Result<u64, lexopt::Error> {
    match parser.value()?.parse()? {
        number if (1..=most).contains(&number) => Ok(number),
        number => Err(format!("--{name} is {number}; 1 to {most} are allowed").into()),
    }
}

fn positive(name: &str, parser: &mut lexopt::Parser) -> Result<f64, lexopt::Error> {
    match parser.value()?.parse()? {
        number if (0.001..=1e6).contains(&number) => Ok(number),
        number => Err(format!("--{name} is {number}; 0.001 to 1000000 are allowed").into()),
    }
}

fn synchronous(text: &str) -> Result<Synchronous, String> {
    match text {
        "full" => Ok(Synchronous::Full),
        "normal" => Ok(Synchronous::Normal),
        "mixed" => Ok(Synchronous::Mixed),
        "off" => Ok(Synchronous::Off),
        _ => Err("full, normal, mixed and off are allowed".to_owned()),
    }
}
