//! Deleting failed messages.

use std::process::ExitCode;

use crate::args::Discard;
use crate::failure::Failure;

pub fn run(_args: Discard) -> Result<ExitCode, Failure> {
    Err(Failure::no("this command is not there yet"))
}
