//! Forwarding as a program of its own. Forwarding itself is the library's: here is what begins it, shows it, and ends it.

mod drain;
mod figures;
mod journal;
mod screen;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, select, tick};
use edge_outbox::broker::Mqtt;
use edge_outbox::{Outbox, Role, Status, Storage};
use signal_hook::low_level;

use self::drain::{Drain, Drained};
use self::figures::{Figures, left};
use self::screen::Screen;
use crate::args::{Database, Forward};
use crate::failure::{Failure, NO};
use crate::output;
use crate::signals::{self, Signal};

/// What a shutdown may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked while somebody waits for the end or watches, and otherwise.
const OFTEN: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(1);

pub fn run(args: Forward) -> Result<ExitCode, Failure> {
    let begun = Instant::now();
    let Forward { database, broker, drain, timeout, settings } = args;
    if database.path.to_string_lossy().contains("://") {
        return Err(Failure::usage("the database is expected first, by its path; a URL goes behind --to"));
    }
    let (settings, config) = settings.settings(&database)?;
    let broker = Mqtt::new(broker.mqtt(config)?).map_err(Failure::usage)?;
    let screen = Screen::new(drain);
    journal::begin(&screen)?;
    let signals = ending()?;

    let parked = Arc::new(AtomicU64::new(0));
    let count = parked.clone();
    let opened = Outbox::builder(&database.path)
        .existing()
        .settings(settings)
        .broker(broker)
        .on_failed(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        })
        .open();
    let outbox = opened.map_err(|error| database.failure(&error))?;
    let drain = drain.then(|| Drain::new(&outbox, parked, timeout.and_then(|timeout| begun.checked_add(timeout))));
    watch(&outbox, &database, drain, &signals, screen)
}

/// Tells of the first signal. A second one ends the process at once, whatever it does.
fn ending() -> Result<Receiver<Signal>, Failure> {
    let (tell, told) = bounded(1);
    let mut first = Some(tell);
    signals::listen(move |signal| match first.take() {
        Some(tell) => drop(tell.send(signal)),
        None if signal == Signal::Hangup => {} // a terminal that closes sends two: the kernel's and the shell's
        None => low_level::exit(NO.into()),
    })?;
    Ok(told)
}

/// Until a signal comes, it is drained, or it cannot go on.
fn watch(
    outbox: &Outbox,
    database: &Database,
    drain: Option<Drain>,
    signals: &Receiver<Signal>,
    mut screen: Screen,
) -> Result<ExitCode, Failure> {
    let ticks = tick(if drain.is_some() || screen.is_watched() { OFTEN } else { SELDOM });
    let mut replaced_since = None;
    loop {
        let signal = select! {
            recv(signals) -> signal => signal.ok(),
            recv(ticks) -> _ => None,
        };
        let status = outbox.status();
        if let Some(signal) = signal {
            screen.end();
            log::info!("{}: ending within {PATIENCE:?}, or at once at another one", signal.name());
            return end(outbox, database, drain.is_some().then_some((signal.name(), &status)));
        }
        if let Some(why) = cannot_go_on(&status, &mut replaced_since) {
            screen.end();
            // It saves what can be saved.
            let _ = outbox.shutdown(PATIENCE);
            return Err(Failure::no(database.says(why)));
        }
        let mut figures = Figures::new(outbox, status);
        screen.show(&mut figures, database);
        match drain.as_ref().map(|drain| drain.look(outbox, &mut figures)) {
            None | Some(Drained::NotYet) => {}
            Some(Drained::Done) => {
                screen.end();
                return drain.map_or(Ok(ExitCode::SUCCESS), |drain| drain.done(outbox, database));
            }
            Some(Drained::TimedOut) => {
                screen.end();
                return drain.map_or(Ok(ExitCode::SUCCESS), |drain| drain.timed_out(outbox, database, &figures));
            }
            Some(Drained::Refused) => {
                screen.end();
                let left = left(outbox, figures.status(), database);
                shut_down(outbox, database)?;
                return Err(Failure::no(database.says(format_args!("not drained: {left}"))));
            }
        }
    }
}

/// At a signal. `draining`: by which one, and how it stood: then something that is left is a failure.
fn end(outbox: &Outbox, database: &Database, draining: Option<(&str, &Status)>) -> Result<ExitCode, Failure> {
    shut_down(outbox, database)?;
    match draining {
        Some((signal, status)) if outbox.stats().map_or(true, |stats| stats.pending > 0) => {
            let left = left(outbox, status, database);
            Err(Failure::no(database.says(format_args!("{signal} before it was drained: {left}"))))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn shut_down(outbox: &Outbox, database: &Database) -> Result<(), Failure> {
    outbox.shutdown(PATIENCE).map_err(|error| database.failure(&error))
}

/// Why this forwarder is of no use any more: a service manager starts another one.
fn cannot_go_on(status: &Status, replaced_since: &mut Option<Instant>) -> Option<String> {
    if let Some(said) = &status.failed {
        return Some(format!(
            "the forwarder panicked, messages are kept and not sent: {}\nStart it again, and please report this",
            output::line(said)
        ));
    }
    let words = match &status.storage {
        Storage::Replaced(words) => Some(words),
        _ => None,
    };
    if status.role == Role::Stopped {
        let why = words.map(|words| output::line(words)).unwrap_or_default();
        return Some(format!("the forwarder has ended, for its files are not what they were: start it again\n{why}"));
    }
    // A deleted log is saved within a second or two, if nobody is in the way; and a file that was moved may come back.
    let since = words.map(|_| replaced_since.unwrap_or_else(Instant::now));
    *replaced_since = since;
    words.filter(|_| since.is_some_and(|since| since.elapsed() >= PATIENCE)).map(|words| output::line(words))
}
