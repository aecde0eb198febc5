//! A program on a device, to be tested from outside: `cargo build --release --example workload`, then
//! `target/release/examples/workload --help`.
//!
//! tests/campaigns kills it, cuts its power, breaks its network and fills its disk; whoever distrusts those may write
//! campaigns of their own around it.

mod args;
mod broker;
mod writer;

use std::error::Error as StdError;
use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::{Error, Outbox};

use crate::args::{Args, Synchronous};
use crate::writer::Writer;

/// How often it looks whether anything is pending still.
const LOOK: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    env_logger::init();
    let args = match Args::parse() {
        Ok(Some(args)) => args,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("workload: {why}; --help tells more");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("workload: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Box<dyn StdError>> {
    let until = args.duration.map(|duration| Instant::now() + duration);
    let outbox = open(args)?;
    writer::make_table(&outbox)?;
    say("OPEN");
    let drained = if args.drain {
        wait_until_drained(&outbox, until)
    } else {
        work(args, &outbox, until);
        true
    };
    outbox.shutdown(Duration::from_secs(10))?;
    Ok(if drained { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn open(args: &Args) -> Result<Outbox, Error> {
    let (synchronous, connections) = (args.synchronous, AtomicUsize::new(0));
    let every_second = move || connections.fetch_add(1, Ordering::Relaxed) % 2 == 1;
    Outbox::builder(&args.db)
        .settings(args.settings.clone())
        .broker(broker::of(&args.broker)?)
        .on_connect(move |connection| {
            let mode = match synchronous {
                Synchronous::Mixed if every_second() => "NORMAL",
                Synchronous::Full | Synchronous::Mixed => "FULL",
                Synchronous::Normal => "NORMAL",
                Synchronous::Off => "OFF",
            };
            connection.pragma_update(None, "synchronous", mode)
        })
        .open()
}

/// Writes until then, or for ever, but while it is told to drain.
fn work(args: &Args, outbox: &Outbox, until: Option<Instant>) {
    let orders = orders();
    // Held by each transaction: whoever changes it knows that none is under way.
    let (writing, over) = (RwLock::new(true), AtomicBool::new(false));
    let set = |on| *writing.write().unwrap_or_else(PoisonError::into_inner) = on;
    thread::scope(|scope| {
        for number in 0..args.writers {
            let mut writer = Writer::new(args, outbox, number);
            let (writing, over) = (&writing, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    writer.wait_until_due();
                    let may = writing.read().unwrap_or_else(PoisonError::into_inner);
                    if *may {
                        writer.write();
                    } else {
                        drop(may);
                        thread::sleep(LOOK);
                    }
                }
            });
        }
        let mut draining = false;
        while until.is_none_or(|until| Instant::now() < until) {
            match orders.recv_timeout(if draining { LOOK } else { 10 * LOOK }) {
                Ok(Order::Drain) => (draining, _) = (true, set(false)),
                Ok(Order::Write) => (draining, _) = (false, set(true)),
                Ok(Order::Pause) => told(outbox.pause()),
                Ok(Order::Resume) => told(outbox.resume()),
                Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if draining && is_drained(outbox) {
                say("DRAINED");
                draining = false;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

enum Order {
    Drain,
    Write,
    Pause,
    Resume,
}

fn told(answer: Result<(), Error>) {
    if let Err(error) = answer {
        eprintln!("workload: {error}");
    }
}

/// What is said on standard input, which may be closed from the start.
fn orders() -> Receiver<Order> {
    let (tell, orders) = channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let order = match line.trim() {
                "drain" => Order::Drain,
                "write" => Order::Write,
                "pause" => Order::Pause,
                "resume" => Order::Resume,
                other => {
                    eprintln!("workload: {other:?} is no order; drain, write, pause and resume are");
                    continue;
                }
            };
            if tell.send(order).is_err() {
                return;
            }
        }
    });
    orders
}

fn wait_until_drained(outbox: &Outbox, until: Option<Instant>) -> bool {
    while !is_drained(outbox) {
        if until.is_some_and(|until| Instant::now() >= until) {
            return false;
        }
        thread::sleep(LOOK);
    }
    say("DRAINED");
    true
}

/// Nothing is pending: neither on its way nor waiting for another try.
fn is_drained(outbox: &Outbox) -> bool {
    match outbox.stats() {
        Ok(stats) => stats.pending == 0,
        Err(error) => {
            eprintln!("workload: cannot count what is pending: {error}");
            false
        }
    }
}

/// One line, out at once: whoever kills this process counts on what it said before.
pub fn say(words: impl Display) {
    let line = format!("{words}\n");
    let mut out = io::stdout().lock();
    // Nobody listens any more: there is nobody to tell that either.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}
