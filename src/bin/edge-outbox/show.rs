//! One message, with all that it says.

use std::process::ExitCode;

use crate::args::Show;
use crate::failure::Failure;

pub fn run(_args: Show) -> Result<ExitCode, Failure> {
    Err(Failure::no("this command is not there yet"))
}
