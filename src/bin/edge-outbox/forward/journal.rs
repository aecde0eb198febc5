//! The log, on standard error.

use std::env;
use std::io::{self, Write};

use env_logger::{Builder, Target};
use log::Level;
use rustix::fs::fstat;

use super::screen::Screen;
use crate::failure::Failure;
use crate::output;

/// As `RUST_LOG` says, by default from `info` on.
pub fn begin(screen: &Screen) -> Result<(), Failure> {
    let filter = env::var("RUST_LOG").unwrap_or_else(|_| "edge_outbox=info".to_owned());
    let mut log = Builder::new();
    log.parse_filters(&filter);
    let to_journal = is_systemd_journal();
    log.format(move |out, record| {
        let (level, said) = (record.level(), output::line(&record.args().to_string()));
        match to_journal {
            // It has a time of its own, and reads the level from the line's beginning: sd-daemon(3).
            true => writeln!(out, "<{}>{}: {said}", priority(level), record.target()),
            false => writeln!(out, "[{} {level:<5} {}] {said}", out.timestamp_seconds(), record.target()),
        }
    });
    if screen.is_watched() {
        log.target(Target::Pipe(Box::new(screen.log_target())));
    }
    log.try_init().map_err(|error| Failure::no(format_args!("the log cannot be begun: {error}")))
}

/// Whether standard error goes there, as [systemd.exec(5)](https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#%24JOURNAL_STREAM)
/// says: the variable alone is passed on to others, whose standard error may be a file.
fn is_systemd_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|found| stream == format!("{}:{}", found.st_dev, found.st_ino))
}

fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
