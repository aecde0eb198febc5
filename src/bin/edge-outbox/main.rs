//! `edge-outbox`: operates an outbox from a shell. docs/command-line.md is its manual.

mod args;
mod check;
mod completions;
mod config;
mod database;
mod discard;
mod enqueue;
mod failed;
mod failure;
mod forward;
mod init;
mod json;
mod list;
mod output;
mod purge;
mod retry;
mod show;
mod status;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let args = Args::parse(); // ends with 2, in words, where they are wrong
    match run(args.command) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Init(args) => init::run(args),
        Command::Enqueue(args) => enqueue::run(args),
        Command::Forward(args) => forward::run(args),
        Command::Status(args) => status::run(args),
        Command::List(args) => list::run(args),
        Command::Show(args) => show::run(args),
        Command::Retry(args) => retry::run(args),
        Command::Discard(args) => discard::run(args),
        Command::Purge(args) => purge::run(args),
        Command::Check(args) => check::run(args),
        Command::Completions(args) => completions::run(args),
    }
}
