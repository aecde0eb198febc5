//! A weather station on a bad link.
//!
//! Four sensors write their readings into a table of the station's own and enqueue them as messages, in one
//! transaction each. Some of these transactions are rolled back. The link to the broker breaks twice. At the end the
//! station audits itself: what arrived at the far end against what stands in its table.
//!
//! ```sh
//! cargo run --release --example station
//! cargo run --release --example station -- --broker mqtt://localhost:1883
//! ```

mod args;
mod audit;
mod display;
#[cfg(feature = "mqtt")]
mod mqtt;
mod route;
mod sensor;

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::{Backoff, Message, Outbox, Settings, Stats};
use indicatif::HumanCount;

use crate::args::Args;
use crate::audit::{Audit, Finding};
use crate::display::Display;
use crate::route::{Arrived, Link, Route};
use crate::sensor::{Reading, SENSORS, Tally};

type Failure = Box<dyn Error + Send + Sync>;

/// How long the rest may take, once the link stands again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at how it stands.
const LOOK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let args = match Args::parse() {
        Ok(Some(args)) => args,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("station: {why}; --help tells more");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprint!("station: {why}");
            let mut cause = why.source();
            while let Some(deeper) = cause {
                eprint!(": {deeper}");
                cause = deeper.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

/// Whether the audit found everything in order.
fn run(args: &Args) -> Result<bool, Failure> {
    let (database, _folder) = args.database()?;
    let run = sensor::new_run();
    let Route { name, broker, link, far_end } = Route::open(args.broker.as_deref(), &run)?;
    println!("{} sensors measure for {} s.", SENSORS.len(), args.duration.as_secs());
    println!("Messages go to {name}.\nThe database is {}.\n", database.display());

    // Short waits, so that nobody waits long for a demonstration; the defaults suit a device.
    let reconnect = Backoff { first: Duration::from_millis(100), longest: Duration::from_millis(500) };
    let settings = Settings { reconnect, settle_after: Duration::from_millis(200), ..Settings::default() };
    let outbox = Outbox::builder(&database).settings(settings).broker(broker).open()?;
    sensor::create_table(&outbox)?;

    let tally = Tally::default();
    let mut station = Station {
        outbox: &outbox,
        tally: &tally,
        far_end,
        display: Display::new(args.duration),
        audit: Audit::new(&run),
        longest_backlog: 0,
        begun: Instant::now(),
        next_look: Instant::now(),
    };
    let broken = station.measure_and_break(&run, &*link, args.duration)?;
    station.listen_to_the_end()?;
    let stats = outbox.stats()?;
    outbox.shutdown(PATIENCE)?;
    station.display.finish();

    station.summary(broken, &stats);
    let good = station.conclude(&sensor::committed(&outbox, &run)?, &stats);
    if args.keeps_database() {
        println!("Look into it: sqlite3 {} 'SELECT * FROM outbox LIMIT 5'", database.display());
    }
    Ok(good)
}

/// All that the story is told with.
struct Station<'s> {
    outbox: &'s Outbox,
    tally: &'s Tally,
    far_end: Receiver<Arrived>,
    display: Display,
    audit: Audit,
    longest_backlog: u64,
    begun: Instant,
    next_look: Instant,
}

impl Station<'_> {
    /// The sensors measure for so long, while the link breaks for the second and the fourth fifth of it. For how long
    /// it was broken.
    fn measure_and_break(&mut self, run: &str, link: &dyn Link, duration: Duration) -> Result<Duration, Failure> {
        let (outbox, tally, begun) = (self.outbox, self.tally, self.begun);
        thread::scope(|scope| {
            let measure = |sensor| move || sensor::measure(outbox, run, sensor, begun + duration, tally);
            let sensors = SENSORS.map(|sensor| scope.spawn(measure(sensor)));
            let mut broken = Duration::ZERO;
            for _ in 0..2 {
                self.listen(|_| false, Instant::now() + duration / 5)?;
                link.cut();
                let cut = Instant::now();
                self.display.happened("the link breaks");

                self.listen(|_| false, cut + duration / 5)?;
                link.heal();
                broken += cut.elapsed();
                let backlog = count(outbox.stats()?.pending);
                self.display.happened(&format!("the link can be used again; {backlog} messages wait"));
            }
            self.listen(|_| false, begun + duration)?;
            self.display.happened("the sensors stop; what is left is sent");
            for sensor in sensors {
                sensor.join().map_err(|_| "a sensor panicked")??;
            }
            Ok(broken)
        })
    }

    /// Until everything is settled, and has arrived.
    fn listen_to_the_end(&mut self) -> Result<(), Failure> {
        let outbox = self.outbox;
        thread::scope(|scope| {
            // Beside the listening, for nothing is acknowledged while nobody listens.
            let flushing = scope.spawn(|| outbox.flush(PATIENCE));
            while !flushing.is_finished() {
                self.listen(|_| flushing.is_finished(), Instant::now() + PATIENCE)?;
            }
            if let Err(why) = flushing.join().map_err(|_| "flush panicked")? {
                self.display.happened(&format!("not everything could be sent: {why}"));
            }
            Ok::<_, Failure>(())
        })?;
        outbox.transaction(|tx| outbox.enqueue(tx, &Message::text(self.audit.end_topic(), "")))?;
        self.listen(Audit::ended, Instant::now() + PATIENCE)?;
        if let Err(why) = outbox.flush(PATIENCE) {
            self.display.happened(&format!("the end could not be told: {why}"));
        }
        Ok(())
    }

    /// Takes what arrives until `enough`, or until then, and shows how it stands.
    fn listen(&mut self, enough: impl Fn(&Audit) -> bool, until: Instant) -> Result<(), Failure> {
        while !enough(&self.audit) && Instant::now() < until {
            let look = self.next_look.min(until);
            match self.far_end.recv_timeout(look.saturating_duration_since(Instant::now())) {
                Ok(message) => self.audit.arrived(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the far end went away".into()),
            }
            if Instant::now() >= self.next_look {
                self.next_look = Instant::now() + LOOK;
                self.look()?;
            }
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Failure> {
        let stats = self.outbox.stats()?;
        self.longest_backlog = self.longest_backlog.max(stats.pending);
        let committed = count(self.tally.committed.load(Relaxed));
        let (delivered, pending) = (count(self.audit.delivered()), count(stats.pending));
        self.display.show(format!("{committed} committed, {delivered} delivered, {pending} pending"));
        Ok(())
    }

    fn summary(&self, broken: Duration, stats: &Stats) {
        let (committed, rolled_back) = (self.tally.committed.load(Relaxed), self.tally.rolled_back.load(Relaxed));
        println!("\nWhat happened in {:.1} s", self.begun.elapsed().as_secs_f64());
        let line = |what: &str, figure: String, more: &str| println!("  {what:25} {figure:>7} {more}");
        line("committed", count(committed), "readings, each with its message");
        line("rolled back on purpose", count(rolled_back), "readings, each with its message");
        line("the link was broken for", format!("{:.1}", broken.as_secs_f64()), "s, in two times");
        line("reconnected", count(stats.reconnects), "times");
        line("longest backlog", count(self.longest_backlog), "messages");
        line("delivered", count(self.audit.delivered()), "readings");
        line("delivered once more", count(self.audit.repeated()), "times: what was in flight when the link broke");
    }

    /// Whether all that was promised was kept.
    fn conclude(&self, committed: &[Reading], stats: &Stats) -> bool {
        let mut findings = self.audit.findings(committed, self.tally.rolled_back.load(Relaxed));
        findings.push(Finding {
            good: stats.pending == 0 && stats.failed == 0,
            question: "nothing is left in the outbox",
            figures: format!("{} pending, {} failed", count(stats.pending), count(stats.failed)),
        });
        println!("\nAudit");
        for Finding { good, question, figures } in &findings {
            println!("  {:5} {question:40} {figures}", if *good { "ok" } else { "WRONG" });
        }
        let good = findings.iter().all(|finding| finding.good);
        println!("\n{}", if good { "Nothing was lost." } else { "Something is wrong: see above." });
        good
    }
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}
