//! What is shown of it: a bar on a terminal, a line now and then in a log.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use edge_outbox::{LinkState, Role, Status};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::figures::{self, Figures};

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
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = "[{bar:20}] {human_pos} sent, {msg}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let every = if draining { DRAINING } else { FORWARDING };
        Screen { bar, every, next_line: Instant::now() + every, last_line: String::new() }
    }

    /// Whether there is a bar.
    pub fn is_watched(&self) -> bool {
        !self.bar.is_hidden()
    }

    pub fn show(&mut self, figures: &mut Figures<'_>) {
        if self.is_watched() { self.draw(figures) } else { self.log(figures) }
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
        self.bar.set_length(sent + pending);
        self.bar.set_position(sent);
        let rate = self.bar.per_sec();
        let time = match self.bar.eta() {
            _ if pending == 0 => String::new(),
            left if rate < 0.1 || left.is_zero() => String::new(),
            left => format!(", {:#} left", indicatif::HumanDuration(left)),
        };
        let pending = crate::output::count(pending);
        self.bar.set_message(format!("{pending} pending, {rate:.0}/s{time}, {}", short(figures.status())));
        self.bar.tick();
    }

    fn log(&mut self, figures: &mut Figures<'_>) {
        let now = Instant::now();
        if now < self.next_line {
            return;
        }
        self.next_line = now + self.every;
        let Some(stats) = figures.stats().cloned() else { return };
        let line = figures::line(&stats, figures.status());
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
