//! Looking for damage.

use std::io::{self, Write};
use std::process::ExitCode;

use edge_outbox::inspector::{Checked, Finding};

use crate::args::Check;
use crate::failure::{Failure, NO, OK, told};
use crate::output::{count, counted, line};

pub fn run(args: Check) -> Result<ExitCode, Failure> {
    let Check { database } = args;
    let inspector = database.inspect()?;
    let checked = inspector.check().map_err(|error| database.failure(&error))?;
    let code = if checked.findings.is_empty() { OK } else { NO };
    told(print(&checked), code, conclusion(&checked))
}

fn print(checked: &Checked) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut findings = checked.findings.iter().peekable();
    while let Some(Finding { what, remedy, .. }) = findings.next() {
        writeln!(out, "{}", line(what))?;
        // Said once for all that it is good for.
        if findings.peek().is_none_or(|next| next.remedy != *remedy) {
            writeln!(out, "    {}", line(remedy))?;
        }
    }
    if let Some(why) = &checked.not_checked {
        writeln!(out, "not checked: tables of the application ({})", line(why))?;
    }
    writeln!(out, "{}", conclusion(checked))
}

fn conclusion(checked: &Checked) -> String {
    let rows = counted(checked.rows, "row");
    let failed = match checked.failed {
        0 => String::new(),
        failed => format!(" ({} FAILED)", count(failed)),
    };
    if checked.findings.is_empty() {
        format!("no fault found in {rows}{failed}")
    } else {
        format!("not sound; looked at {rows}{failed}")
    }
}
