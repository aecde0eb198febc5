//! What a wall clock does to a program that forwards: it changes stamps and when SENT rows are purged, and nothing
//! else. The program is another process, with a clock that this one sets.
#![cfg(all(target_os = "linux", feature = "mqtt"))]

mod chance;
mod lives;
mod program;
mod stamps;
mod waits;

#[path = "../support/clock.rs"]
mod clock;
#[path = "../support/mosquitto.rs"]
mod mosquitto;

use std::time::Duration;

/// Far beyond what any of this takes, the slowest machine included.
const SOON: Duration = Duration::from_secs(60);
