//! What is shown of it: a bar on a terminal, a line now and then in a log.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use edge_outbox::{LinkState, Role, Status};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::figures::{self, Figures};
use crate::args::Database;
use crate::output;

/// How often at most the log has a line of figures, while draining and otherwise.
const DRAINING: Duration = Duration::from_secs(10);
const FORWARDING: Duration = Duration::from_secs(60);

pub struct Screen {
    /// Hidden where nobody watches.
    bar: ProgressBar,
    every: Duration,
    next_line: Instant,
    last_line: String,
}

impl Screen {
    pub fn new(draining: bool) -> Self {
        let target =
            if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1), target).with_message("opening");
        let style = "[{bar:20}] {msg}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let every = if draining { DRAINING } else { FORWARDING };
        Screen { bar, every, next_line: Instant::now() + every, last_line: String::new() }
    }

    /// Whether there is a bar.
    pub fn is_watched(&self) -> bool {
        !self.bar.is_hidden()
    }

    pub fn show(&mut self, figures: &mut Figures<'_>, database: &Database) {
        if self.is_watched() { self.draw(figures) } else { self.log(figures, database) }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// For the log: writes to standard error without tearing the bar.
    pub fn log_target(&self) -> impl Write + Send + 'static {
        AroundBar(self.bar.clone())
    }

    fn draw(&self, figures: &mut Figures<'_>) {
        let Some(stats) = figures.stats() else { return };
        let (pending, sent) = (stats.pending, stats.sent);
        self.bar.update(|state| {
            state.set_len((sent + pending).max(1));
            state.set_pos(if pending == 0 { 1.max(sent) } else { sent });
        });
        let rate = self.bar.per_sec();
        let left = match self.bar.eta() {
            left if pending == 0 || rate < 0.1 || left.is_zero() => String::new(),
            left => format!(", {} left", output::brief(left)),
        };
        let (sent, pending) = (output::count(sent), output::count(pending));
        let link = short(figures.status());
        self.bar.set_message(format!("{sent} sent, {pending} pending, {rate:.0}/s{left}, {link}"));
    }

    fn log(&mut self, figures: &mut Figures<'_>, database: &Database) {
        let now = Instant::now();
        if now < self.next_line {
            return;
        }
        self.next_line = now + self.every;
        let Some(stats) = figures.stats().cloned() else { return };
        let line = figures::line(&stats, figures.status(), database);
        if line != self.last_line {
            log::info!("{line}");
            self.last_line = line;
        }
    }
}

fn short(status: &Status) -> &'static str {
    match (status.role, &status.link) {
        (Role::Standby, _) => "standing by",
        (_, LinkState::Connecting) => "connecting",
        (_, LinkState::Up) => "connected",
        (_, LinkState::Offline { .. }) => "offline",
        (_, LinkState::Refused { .. }) => "refused",
        (_, LinkState::TopicsClosed { .. }) => "all closed",
        (_, _) => "paused",
    }
}

struct AroundBar(ProgressBar);

impl Write for AroundBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
