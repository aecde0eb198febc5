//! What the library logs about sessions and topics, for all tests of this process together.

use std::sync::{Mutex, Once, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

struct Journal(Mutex<Vec<String>>);

static JOURNAL: Journal = Journal(Mutex::new(Vec::new()));
static BEGUN: Once = Once::new();

/// Begins to write down that there is no session, and which topics are closed and open again.
pub fn begin() {
    BEGUN.call_once(|| {
        log::set_logger(&JOURNAL).expect("nobody else logs in this process");
        log::set_max_level(LevelFilter::Info);
    });
}

/// Whether one of them holds all of these words.
pub fn says(words: &[&str]) -> bool {
    lines().iter().any(|line| words.iter().all(|word| line.contains(word)))
}

pub fn lines() -> Vec<String> {
    JOURNAL.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with("edge_outbox")
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let line = record.args().to_string();
            if ["no session", "the broker closed topic", "topic "].iter().any(|words| line.starts_with(words)) {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        }
    }

    fn flush(&self) {}
}
