//! What happened: tens of thousands of messages go from transactions through an outbox to a real mosquitto, while
//! connections are killed, cut and stalled, acknowledgements swallowed, messages lost and refused, and the broker itself
//! killed and stopped.
//!
//! What must hold: no row is ever SENT whose acknowledgement had not come; every committed message arrives, intact; no
//! message of a rolled back transaction ever does; nothing is parked; messages of a key go, and first arrive, in the
//! order of their commits; and no more is repeated than was in flight when a connection ended.
//!
//! ```console
//! $ cargo test --release --test chaos -- --runs 25 --messages 50000 --faults 30
//! ```
//!
//! A run that went wrong prints the command that plays its plan again. The plan is the same then; the timing is the
//! machine's.

mod args;
#[path = "../support/chance.rs"]
mod chance;
mod controls;
mod fault;
mod oracle;
mod plan;
mod run;
mod world;

#[path = "../support/mosquitto.rs"]
mod mosquitto;
#[path = "../support/proxy/mod.rs"]
mod proxy;
#[path = "../support/subscriber.rs"]
mod subscriber;

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::args::Args;
use crate::plan::{Manner, Plan};
use crate::run::Report;

/// Far beyond what any of this takes, the slowest machine included.
const SOON: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let args = match Args::parse() {
        Ok(Some(args)) => args,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("chaos: {why}; --help tells more");
            return ExitCode::from(2);
        }
    };
    env_logger::init();
    match controls::run() {
        Ok(lies) => println!("the judge found each of {lies} lies that were told to try it"),
        Err(why) => {
            eprintln!("chaos: the judge is blind: {why}");
            return ExitCode::FAILURE;
        }
    }
    let manners = args.manners();
    let first = args.seed.unwrap_or_else(a_seed);
    let went_wrong = (0..args.runs).filter(|run| {
        let (seed, manner) = (first.wrapping_add(*run as u64), manners[run % manners.len()]);
        !is_good(&args, *run, seed, manner)
    });
    match went_wrong.count() {
        0 => ExitCode::SUCCESS,
        count => {
            eprintln!("chaos: {count} of {} runs went wrong", args.runs);
            ExitCode::FAILURE
        }
    }
}

/// Plays one run and prints what it came to.
fn is_good(args: &Args, run: usize, seed: u64, manner: Manner) -> bool {
    let plan = Plan::draw(seed, manner, args.messages, args.faults);
    let folder = tempfile::Builder::new().prefix("chaos-").disable_cleanup(args.keep).tempdir();
    let folder = folder.expect("a temporary folder");
    let path = folder.path().to_owned();
    let report = panic::catch_unwind(AssertUnwindSafe(|| run::play(&plan, folder))).unwrap_or_else(|said| Report {
        findings: vec![format!("it did not come to its end: {}", words(&*said))],
        ..Report::default()
    });
    println!("{:>3}/{} {}", run + 1, args.runs, line(&plan, &report));
    if report.findings.is_empty() {
        let _ = std::fs::remove_dir_all(path);
        return true;
    }
    report.findings.iter().for_each(|found| println!("        {found}"));
    println!(
        "    cargo test --release --test chaos -- --runs 1 --messages {} --faults {} --seed {seed} --protocol {} --qos {}",
        args.messages,
        args.faults,
        manner.protocol_name(),
        manner.qos.level()
    );
    if args.keep {
        println!("    its folder: {}", path.display());
    }
    false
}

fn line(plan: &Plan, report: &Report) -> String {
    let Plan { seed, manner, window, .. } = plan;
    let messages = plan.committed().count();
    let faults: Vec<String> = report.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let faults = if faults.is_empty() { String::new() } else { format!("\n        {}", faults.join(", ")) };
    let rate = messages as f64 / report.took.as_secs_f64().max(0.001);
    let verdict = if report.findings.is_empty() { "good" } else { "WRONG" };
    format!(
        "seed {seed}, MQTT {:<5} QoS {}, window {window:>3}: {messages} messages, {} connections, {} sent again, \
         {} received again, {:.1} s, {rate:.0}/s: {verdict}{}",
        manner.protocol_name(),
        manner.qos.level(),
        report.connections,
        report.repeated,
        report.received_again,
        report.took.as_secs_f64(),
        faults,
    )
}

fn words(said: &(dyn Any + Send)) -> &str {
    let text = said.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| said.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

/// Another one each time.
fn a_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64 % 1_000_000_000
}

/// Whether it comes to hold in time.
fn within(time: Duration, holds: impl Fn() -> bool) -> bool {
    let until = Instant::now() + time;
    while !holds() {
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}
