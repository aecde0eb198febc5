//! Messages, one a line.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use edge_outbox::inspector::{Filter, MessageSummary};

use crate::args::List;
use crate::failure::{Failure, say};
use crate::json;
use crate::output::{age, brief, bytes, cut, line};
use crate::terminal::width;
use crate::words;

/// Read at once and then printed: whoever reads slowly keeps no transaction open, and so no log from ending.
const PAGE: usize = 500;
/// Columns of a topic and of a key at most; in a terminal that is not wide fewer.
const MOST_TOPIC: usize = 40;
const MOST_KEY: usize = 20;

pub fn run(args: List) -> Result<ExitCode, Failure> {
    let inspector = args.database.inspect()?;
    let filter = Filter { state: args.status, topic: args.topic, key: args.key };
    let page = |bound, most| {
        let found = match args.newest {
            true => inspector.messages_before(&filter, bound, most),
            false => inspector.messages(&filter, bound, most),
        };
        found.map_err(|error| args.database.failure(&error))
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut table = Table::new(width());
    let mut bound = if args.newest { args.before.unwrap_or(i64::MAX) } else { args.after };
    let mut left = if args.limit == 0 { usize::MAX } else { args.limit };
    while left > 0 {
        let asked = left.min(PAGE);
        let found = page(bound, asked)?;
        if args.json {
            found.iter().try_for_each(|message| json::print(&mut out, &json::Summary::from(message)))?;
        } else {
            table.print(&mut out, &found)?;
        }
        out.flush()?;
        let Some(last) = found.last().filter(|_| found.len() == asked) else { return Ok(ExitCode::SUCCESS) };
        bound = last.id.row();
        left -= asked;
    }
    if !page(bound, 1)?.is_empty() {
        let option = if args.newest { "--before" } else { "--after" };
        say(format_args!("there are more: {option} {bound} goes on with them, --limit 0 lists all"));
    }
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; COLUMNS] = ["ROW", "STATUS", "AGE", "TOPIC", "KEY", "SIZE", "ATTEMPTS", "REASON"];
const COLUMNS: usize = 8;

/// Columns become wider with a later page, never narrower.
struct Table {
    width: Option<usize>,
    widths: [usize; COLUMNS],
    headed: bool,
}

impl Table {
    fn new(width: Option<usize>) -> Self {
        Table { width, widths: HEAD.map(str::len), headed: false }
    }

    fn print(&mut self, out: &mut impl Write, page: &[MessageSummary]) -> io::Result<()> {
        let rows: Vec<_> = page.iter().map(|message| self.cells(message)).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if self.width.is_none() {
            // One topic of 60,000 bytes is no reason to move the columns behind it out of sight.
            self.widths[3] = self.widths[3].min(MOST_TOPIC);
            self.widths[4] = self.widths[4].min(MOST_KEY);
        }
        if !self.headed && !rows.is_empty() {
            self.headed = true;
            self.line(out, &HEAD.map(str::to_owned))?;
        }
        rows.iter().try_for_each(|row| self.line(out, row))
    }

    fn cells(&self, message: &MessageSummary) -> [String; COLUMNS] {
        let fit = |text: String, share, most: usize| match self.width {
            Some(width) => cut(&text, most.min(width / share).max(8)),
            None => text,
        };
        [
            message.id.row().to_string(),
            words::state(message.state).to_owned(),
            age(message.created_at).map_or_else(|| "-".to_owned(), brief),
            fit(line(&message.topic), 4, MOST_TOPIC),
            fit(message.key.as_deref().map_or_else(|| "-".to_owned(), line), 8, MOST_KEY),
            bytes(message.size),
            message.attempts.to_string(),
            reason(message),
        ]
    }

    fn line(&self, out: &mut impl Write, cells: &[String; COLUMNS]) -> io::Result<()> {
        let [row, status, age, topic, key, size, attempts, _] = &self.widths;
        let [c_row, c_status, c_age, c_topic, c_key, c_size, c_attempts, c_reason] = cells;
        let text = format!(
            "{c_row:>row$}  {c_status:<status$}  {c_age:>age$}  {c_topic:<topic$}  {c_key:<key$}  {c_size:>size$}  \
             {c_attempts:>attempts$}  {c_reason}"
        );
        writeln!(out, "{}", cut(text.trim_end(), self.width.unwrap_or(usize::MAX)))
    }
}

/// Why it is where it is.
fn reason(message: &MessageSummary) -> String {
    match (&message.held_by, &message.last_error) {
        (Some(held_by), Some(error)) => line(&format!("behind {held_by}: {error}")),
        (Some(held_by), None) => line(&format!("behind {held_by}")),
        (None, Some(error)) => line(error),
        (None, None) => String::new(),
    }
}
