//! Forwarding as a program of its own.

use std::process::ExitCode;

use crate::args::Forward;
use crate::failure::Failure;

pub fn run(_args: Forward) -> Result<ExitCode, Failure> {
    Err(Failure::no("this command is not there yet"))
}
