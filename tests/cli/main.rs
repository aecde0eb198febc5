//! The command line tool as its users have it: the program itself, real files, a real broker.

mod acceptance;
mod completions;
mod enqueue;
mod files;
mod forward;
mod look;
mod mend;
mod readme;

#[path = "../support/card.rs"]
mod card;
#[path = "../support/device.rs"]
mod device;
#[path = "../support/faults.rs"]
mod faults;
#[path = "../support/mosquitto.rs"]
mod mosquitto;
mod tool;
