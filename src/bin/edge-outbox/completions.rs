//! What a shell needs to complete the arguments.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::{Args, Completions};
use crate::failure::Failure;

pub fn run(args: Completions) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    let mut generate = |name: &str| clap_complete::generate(args.shell, &mut Args::command(), name, &mut script);
    match args.shell {
        // Of a name with a hyphen clap_complete makes two different ones, and then finds no option behind a subcommand. The
        // script itself compares with what was typed, and may have any name.
        Shell::Bash => {
            generate("edge_outbox");
            script.extend_from_slice(b"complete -F _edge_outbox -o bashdefault -o default edge-outbox\n");
        }
        _ => generate("edge-outbox"),
    }
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
