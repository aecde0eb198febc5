//! What the person at the terminal sees: a bar that moves, or plain lines where there is no terminal.

use std::cell::Cell;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two plain lines.
const LINES_EVERY: Duration = Duration::from_secs(1);

pub struct Display {
    bar: ProgressBar,
    begun: Instant,
    last_line: Cell<Instant>,
}

impl Display {
    /// A bar for so long, and a log that does not run into it.
    pub fn new(duration: Duration) -> Self {
        let style = ProgressStyle::with_template("{bar:24} {msg}").expect("a template of ours");
        let bar = ProgressBar::new(duration.as_millis() as u64).with_style(style.progress_chars("━╸─"));
        let log = env_logger::Env::default().default_filter_or("warn");
        env_logger::Builder::from_env(log)
            .format(|line, record| {
                writeln!(line, "         {}: {}", record.level().as_str().to_lowercase(), record.args())
            })
            .target(env_logger::Target::Pipe(Box::new(Beside(bar.clone()))))
            .init();
        let now = Instant::now();
        Display { bar, begun: now, last_line: Cell::new(now) }
    }

    /// A line that stays.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// A line that stays, with the time at which it happened.
    pub fn happened(&self, text: &str) {
        self.say(&format!("{:5.1} s  {text}", self.begun.elapsed().as_secs_f64()));
    }

    /// How it stands.
    pub fn show(&self, text: String) {
        if self.bar.is_hidden() {
            if self.last_line.get().elapsed() >= LINES_EVERY {
                self.last_line.set(Instant::now());
                self.happened(&text);
            }
        } else {
            self.bar.set_position(self.begun.elapsed().as_millis() as u64);
            self.bar.set_message(text);
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Writes the log above the bar.
struct Beside(ProgressBar);

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
