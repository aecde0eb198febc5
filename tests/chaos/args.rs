//! What the campaign is told on the command line.

use edge_outbox::QoS;
use edge_outbox::broker::Protocol;
use lexopt::prelude::*;

use crate::plan::Manner;

const HELP: &str = "\
Sends messages through an outbox to a real mosquitto while the network and the
broker fail, and judges what became of every one. Exits with 1 if a promise was
broken. Without options: a short form.

Usage: cargo test --release --test chaos -- [OPTIONS]

  --runs N          runs, 1 to 10000; 4 by default. They go by turns through
                    both protocols, with QoS 1 and 2
  --messages N      messages committed in each, 500 to 10000000; 2000 by default
  --faults N        faults in each, at most one per 50 messages; 6 by default
  --seed N          of the first run, one more for each of the others; by default
                    another one each time. It decides what happens and after how
                    many messages, not how fast
  --protocol P      5 or 3.1.1 only
  --qos Q           1 or 2 only
  --keep            keep the folders of runs that went wrong

RUST_LOG=edge_outbox=debug shows what the outbox does.";

pub struct Args {
    pub runs: usize,
    pub messages: usize,
    pub faults: usize,
    pub seed: Option<u64>,
    pub protocol: Option<Protocol>,
    pub qos: Option<QoS>,
    pub keep: bool,
}

impl Args {
    /// None if nothing is to be run.
    pub fn parse() -> Result<Option<Args>, lexopt::Error> {
        let mut args = Args { runs: 4, messages: 2_000, faults: 6, seed: None, protocol: None, qos: None, keep: false };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("runs") => args.runs = number("runs", &mut parser, 1, 10_000)?,
                Long("messages") => args.messages = number("messages", &mut parser, 500, 10_000_000)?,
                Long("faults") => args.faults = number("faults", &mut parser, 0, 200_000)?,
                Long("seed") => args.seed = Some(parser.value()?.parse()?),
                Long("protocol") => args.protocol = Some(parser.value()?.parse_with(protocol)?),
                Long("qos") => args.qos = Some(parser.value()?.parse_with(qos)?),
                Long("keep") => args.keep = true,
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                // what `cargo test` passes on to every test program: flags for those that have tests by name,
                Long("nocapture" | "no-capture" | "show-output" | "quiet" | "exact" | "include-ignored")
                | Long("report-time" | "ensure-time" | "shuffle" | "test")
                | Short('q') => {}
                Long("test-threads" | "color" | "format" | "logfile" | "shuffle-seed") => drop(parser.value()?),
                Long("skip") => {
                    if "chaos".contains(&*parser.value()?.to_string_lossy()) {
                        return Ok(None);
                    }
                }
                // and of which names they are
                Long("list" | "ignored") => return Ok(None),
                Value(name) if !"chaos".contains(&name.to_string_lossy().into_owned()) => return Ok(None),
                Value(_) => {}
                _ => return Err(arg.unexpected()),
            }
        }
        if args.faults * 50 > args.messages {
            return Err(format!("--faults is {}; at most {} are allowed", args.faults, args.messages / 50).into());
        }
        Ok(Some(args))
    }

    /// What the runs are by turns.
    pub fn manners(&self) -> Vec<Manner> {
        let wanted = |manner: &Manner| {
            self.protocol.is_none_or(|only| manner.protocol == only) && self.qos.is_none_or(|only| manner.qos == only)
        };
        Manner::ALL.into_iter().filter(wanted).collect()
    }
}

fn number(name: &str, parser: &mut lexopt::Parser, low: usize, high: usize) -> Result<usize, lexopt::Error> {
    match parser.value()?.parse()? {
        number if (low..=high).contains(&number) => Ok(number),
        number => Err(format!("--{name} is {number}; {low} to {high} are allowed").into()),
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "5" => Ok(Protocol::V5),
        "3.1.1" => Ok(Protocol::V311),
        _ => Err("5 and 3.1.1 are allowed".to_owned()),
    }
}

fn qos(text: &str) -> Result<QoS, String> {
    match text {
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("1 and 2 are allowed: with QoS 0 a cut may lose a message".to_owned()),
    }
}
