//! What a campaign is told on the command line.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::Campaign;

/// So many of the things that went wrong are told.
pub const TOLD: usize = 20;

const HELP: &str = "\
Puts the outbox to the test, from outside. Exits with 1 if a promise was broken.

Usage: scripts/prove CAMPAIGN [OPTIONS]

  --full            the full form, most of which take hours; else the short one
  --count N         as many as this instead
  --seed N          decides what happens, not how fast; by default another one
                    each time
  --only WHAT       only that part of it; each campaign's own words
  --workload FILE   the program that is tried; target/release/examples/workload
                    by default
  --keep            keep the folders of what went wrong
";

/// The command line, checked.
pub struct Args {
    pub count: u64,
    pub full: bool,
    pub seed: u64,
    pub only: Option<String>,
    /// The program under test.
    pub workload: PathBuf,
    pub keep: bool,
}

impl Args {
    /// None if nothing is to be run.
    pub fn parse(campaigns: &[Campaign]) -> Result<Option<(&Campaign, Args)>, lexopt::Error> {
        let (mut campaign, mut count) = (None, None);
        let mut args = Args {
            count: 0,
            full: false,
            seed: RandomState::new().hash_one(0) >> 32,
            only: None,
            workload: beside_this_program(),
            keep: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("full") => args.full = true,
                Long("count") => count = Some(parser.value()?.parse()?),
                Long("seed") => args.seed = parser.value()?.parse()?,
                Long("only") => args.only = Some(parser.value()?.string()?),
                Long("workload") => args.workload = parser.value()?.into(),
                Long("keep") => args.keep = true,
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    for Campaign { name, about, counts: (what, short, full), .. } in campaigns {
                        println!("  {name:<12} {about}\n  {:<12} {short} {what}, {full} in full", "");
                    }
                    return Ok(None);
                }
                Value(name) if campaign.is_none() => {
                    let found = campaigns.iter().find(|campaign| *campaign.name == *name);
                    campaign = Some(found.ok_or_else(|| format!("there is no campaign {name:?}"))?);
                }
                _ => return Err(arg.unexpected()),
            }
        }
        let campaign = campaign.ok_or("which campaign?")?;
        let (_, short, full) = campaign.counts;
        args.count = count.unwrap_or(if args.full { full } else { short });
        Ok(Some((campaign, args)))
    }

    /// The command that plays the same once more.
    pub fn again(&self, campaign: &str) -> String {
        let mut command = format!("scripts/prove {campaign} --count {} --seed {}", self.count, self.seed);
        if self.full {
            command += " --full";
        }
        if let Some(only) = &self.only {
            command += &format!(" --only {only}");
        }
        command
    }
}

/// Cargo puts test programs into `deps`, beside `examples`.
fn beside_this_program() -> PathBuf {
    let this = env::current_exe().unwrap_or_default();
    let profile = this.parent().and_then(|deps| deps.parent()).map(PathBuf::from).unwrap_or_default();
    profile.join("examples").join("workload")
}
