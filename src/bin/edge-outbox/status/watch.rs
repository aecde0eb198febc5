//! Again and again, until somebody interrupts.
//!
//! How the forwarder stands, and the files, are looked at each second. To count, the whole table is read: that has a
//! thread of its own, which spends at most a tenth of its time.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::{Count, Form, View};
use crate::args::Database;
use crate::failure::Failure;
use crate::signals;
use crate::terminal::Screen;

const EVERY: Duration = Duration::from_secs(1);
/// How much longer than a count there is none.
const REST: u32 = 9;

enum Event {
    Counted(Box<Count>),
    End,
}

pub fn run(database: Database, form: Form) -> Result<ExitCode, Failure> {
    let inspector = database.inspect()?;
    let (tell, events) = mpsc::channel();
    let end = tell.clone();
    signals::listen(move |_| drop(end.send(Event::End)))?;
    let counted = database.clone();
    thread::spawn(move || count(&counted, &tell));

    let mut screen = (form == Form::People).then(Screen::enter).transpose()?.flatten();
    let mut count = None;
    let mut next = Instant::now() + EVERY;
    loop {
        if !wait(&events, next, &mut count) {
            return Ok(ExitCode::SUCCESS);
        }
        next = Instant::now() + EVERY;
        let mut view = View::of(&database, &inspector, count.take());
        draw(&view, form, screen.as_mut())?;
        count = view.count.take();
    }
}

/// Until it is time to draw, or until the first count is there; whether to go on.
fn wait(events: &Receiver<Event>, until: Instant, count: &mut Option<Count>) -> bool {
    loop {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Counted(new)) => {
                if count.replace(*new).is_none() {
                    return true;
                }
            }
            Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
        }
    }
}

/// Opens the database anew each time, so that one that was replaced is seen as it is now.
fn count(database: &Database, tell: &Sender<Event>) {
    loop {
        let begun = Instant::now();
        let count = match database.inspect() {
            Ok(inspector) => Count::take(database, &inspector),
            Err(failure) => Count { at: SystemTime::now(), figures: Err(failure) },
        };
        if tell.send(Event::Counted(Box::new(count))).is_err() {
            return;
        }
        let took = begun.elapsed();
        thread::sleep((took * REST).max(EVERY.saturating_sub(took)));
    }
}

fn draw(view: &View, form: Form, screen: Option<&mut Screen>) -> Result<(), Failure> {
    if let Some(screen) = screen {
        return Ok(screen.draw(&view.lines())?);
    }
    let mut out = io::stdout().lock();
    match form {
        Form::Json => view.print_json(&mut out)?,
        Form::People => {
            view.lines().iter().try_for_each(|line| writeln!(out, "{line}"))?;
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}
