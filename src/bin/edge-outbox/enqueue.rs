//! Writing messages.

use std::process::ExitCode;

use crate::args::Enqueue;
use crate::failure::Failure;

pub fn run(_args: Enqueue) -> Result<ExitCode, Failure> {
    Err(Failure::no("this command is not there yet"))
}
