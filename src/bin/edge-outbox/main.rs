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
mod next;
mod output;
mod purge;
mod retry;
mod show;
mod signals;
mod status;
mod terminal;
mod words;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use crate::args::{Args, Command};
use crate::failure::{Failure, USAGE};

fn main() -> ExitCode {
    let done = match Args::try_parse() {
        Ok(args) => run(args.command),
        Err(error) if error.use_stderr() => return wrong(error),
        Err(help) => help.print().map(|()| ExitCode::SUCCESS).map_err(Failure::from),
    };
    done.unwrap_or_else(Failure::report)
}

/// In clap's words, which repeat what was typed: a script's arguments may come from anybody.
fn wrong(error: clap::Error) -> ExitCode {
    let words = without_secrets(error).render().to_string();
    let _ = io::stderr().write_all(output::lines(&words).as_bytes());
    ExitCode::from(USAGE)
}

/// `forward` is given passwords, if by mistake: what stands at a wrong place is not repeated, for errors end up in logs.
fn without_secrets(mut error: clap::Error) -> clap::Error {
    if env::args_os().nth(1).is_some_and(|command| command == "forward") {
        for kind in [ContextKind::InvalidArg, ContextKind::InvalidValue] {
            let hide = |value: &ContextValue| matches!(value, ContextValue::String(text) if !text.starts_with('-'));
            if error.get(kind).is_some_and(hide) {
                error.insert(kind, ContextValue::String("…".to_owned()));
            }
        }
    }
    error
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
