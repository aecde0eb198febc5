//! What happens to the disk, in real file systems and processes: it stalls, fails, fills up, and programs are killed in
//! the middle of what they do to it.
//!
//! What needs root, to mount, is skipped in words where there is none.
#![cfg(target_os = "linux")]

mod asking;
mod creation;
mod failing;
mod file_size;
mod full;
mod little_space;
mod locked;
mod log_switch;
mod program;
mod read_only;
mod stopping;
mod two_forwarders;
mod worn_out;

#[path = "../support/card.rs"]
mod card;
#[path = "../support/child.rs"]
mod child;
#[path = "../support/device.rs"]
mod device;
#[path = "../support/faults.rs"]
mod faults;

/// The parts that are played in a process of their own, by name.
const PARTS: &[(&str, child::Part)] = &[
    ("creation::opens", creation::opens),
    ("log_switch::switches", log_switch::switches),
    ("program::runs", program::runs),
    ("two_forwarders::forwards", two_forwarders::forwards),
];
