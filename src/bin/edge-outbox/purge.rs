//! Deleting sent messages.

use std::process::ExitCode;

use crate::args::Purge;
use crate::failure::Failure;

pub fn run(_args: Purge) -> Result<ExitCode, Failure> {
    Err(Failure::no("this command is not there yet"))
}
