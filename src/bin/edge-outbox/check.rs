//! Looking for damage.

use std::io::{self, Write};
use std::process::ExitCode;

use edge_outbox::inspector::{Checked, Finding};

use crate::args::Check;
use crate::failure::{Failure, NO};
use crate::output::count;

pub fn run(args: Check) -> Result<ExitCode, Failure> {
    let Check { database } = args;
    let inspector = database.inspect()?;
    let checked = inspector.check().map_err(|error| Failure::of(&database.path, &error))?;
    let mut out = io::stdout().lock();
    for Finding { what, remedy, .. } in &checked.findings {
        writeln!(out, "{what}\n    {remedy}")?;
    }
    if let Some(why) = &checked.not_checked {
        writeln!(out, "not checked: tables of the application ({why})")?;
    }
    writeln!(out, "{}", conclusion(&checked))?;
    Ok(if checked.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn conclusion(checked: &Checked) -> String {
    let rows = match checked.rows {
        1 => "1 row".to_owned(),
        rows => format!("{} rows", count(rows)),
    };
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
