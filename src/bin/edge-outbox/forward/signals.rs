//! The signals that end it.

use std::fs;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::failure::{Failure, NO};

/// Tells of the first one, by its name. A second one ends the process at once, whatever it does.
pub fn listen() -> Result<Receiver<&'static str>, Failure> {
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let failed = |error| Failure::no(format_args!("signals cannot be listened to: {error}"));
    let mut signals = Signals::new(wanted).map_err(failed)?;
    let (tell, told) = bounded(1);
    let listen = move || {
        let mut first = Some(tell);
        for signal in signals.forever() {
            match first.take() {
                Some(tell) => drop(tell.send(name(signal))),
                None if signal == SIGHUP => {} // a terminal that closes sends two: the kernel's and the shell's
                None => low_level::exit(NO.into()),
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(failed)?;
    Ok(told)
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "SIGINT",
        SIGTERM => "SIGTERM",
        _ => "SIGHUP",
    }
}

/// As `nohup` leaves it to the program: to go on when the terminal is closed.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
