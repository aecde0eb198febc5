//! Messages, one a line.

use std::process::ExitCode;

use crate::args::List;
use crate::failure::Failure;

pub fn run(_args: List) -> Result<ExitCode, Failure> {
    Err(Failure::no("this command is not there yet"))
}
