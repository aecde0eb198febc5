//! The signals that ask a program to end.

use std::fs;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// Which of them it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
    Hangup,
}

impl Signal {
    pub fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
            Signal::Hangup => "SIGHUP",
        }
    }
}

/// Tells of each one, from a thread of its own. None of them ends the process by itself from then on.
pub fn listen(mut tell: impl FnMut(Signal) + Send + 'static) -> Result<(), Failure> {
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let failed = |error| Failure::no(format_args!("signals cannot be listened to: {error}"));
    let mut signals = Signals::new(wanted).map_err(failed)?;
    let listen = move || {
        for signal in signals.forever() {
            tell(match signal {
                SIGINT => Signal::Interrupt,
                SIGTERM => Signal::Terminate,
                _ => Signal::Hangup,
            });
        }
    };
    thread::Builder::new().name("edge-outbox-signals".to_owned()).spawn(listen).map_err(failed)?;
    Ok(())
}

/// As `nohup` leaves it to the program: to go on when the terminal is closed.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
