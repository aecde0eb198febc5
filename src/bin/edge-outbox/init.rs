//! Creating the outbox, and putting back what is missing of it.

use std::process::ExitCode;

use crate::args::Init;
use crate::failure::Failure;

pub fn run(_args: Init) -> Result<ExitCode, Failure> {
    Err(Failure::no("this command is not there yet"))
}
