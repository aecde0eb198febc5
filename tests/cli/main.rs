//! The command line tool as its users have it: the program itself, real files, a real broker.

mod completions;
mod look;

#[path = "../support/device.rs"]
mod device;
#[path = "../support/mosquitto.rs"]
mod mosquitto;
mod tool;
