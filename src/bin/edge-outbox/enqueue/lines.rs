//! One message for each line of standard input.

use std::io::{self, Write};

use edge_outbox::{Error, Message, Outbox};

use crate::args::Enqueue;
use crate::enqueue::gathering::Gathering;
use crate::enqueue::reader::{self, End};
use crate::enqueue::source::{tell_a_person, too_long};
use crate::failure::{self, Failure};
use crate::output;

/// Writes them all, or those before the first that cannot be.
pub fn run(args: &Enqueue, outbox: &Outbox, message: Message) -> Result<(), Failure> {
    let max_payload = outbox.settings().max_payload;
    tell_a_person("reading a message a line");
    let pieces = reader::start(io::stdin(), max_payload)
        .map_err(|error| Failure::no(format_args!("no thread to read standard input: {error}")))?;
    let mut gathering = Gathering::new(pieces, args.batch);
    let mut writing = Writing { args, outbox, message, committed: 0 };
    let end = loop {
        let (lines, end) = gathering.next();
        if !lines.is_empty() {
            writing.write(lines)?;
        }
        if let Some(end) = end {
            break end;
        }
    };
    let Writing { committed, .. } = writing;
    match end {
        End::Whole => {
            failure::say(format_args!("enqueued {}", output::counted(committed, "message")));
            Ok(())
        }
        End::TooLong => {
            let line = output::count(committed + 1);
            let words = format!("line {line} of standard input {}", too_long(max_payload));
            Err(Failure::no(words).and(go_on(committed)))
        }
        End::Failed(error) => Err(Failure::no(format_args!("standard input: {error}")).and(go_on(committed))),
    }
}

struct Writing<'a> {
    args: &'a Enqueue,
    outbox: &'a Outbox,
    /// Of which each line is another payload.
    message: Message,
    /// Lines that are in.
    committed: u64,
}

impl Writing<'_> {
    /// In one transaction: all of them, or those before the first for which there is no room.
    fn write(&mut self, lines: Vec<Vec<u8>>) -> Result<(), Failure> {
        let first = self.committed + 1;
        let mut last = self.committed;
        let (outbox, message) = (self.outbox, &mut self.message);
        let written = outbox.transaction(|tx| {
            for line in lines {
                message.payload = super::payload(line);
                match outbox.enqueue(tx, message) {
                    Ok(_) => last += 1,
                    Err(full @ Error::Full(_)) if last >= first => return Ok(Some(full)),
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        });
        let (error, perhaps) = match written {
            Ok(full) => {
                self.committed = last;
                self.report()?;
                match full {
                    None => return Ok(()),
                    Some(full) => (full, None),
                }
            }
            Err(error @ Error::MaybeCommitted(_)) => (error, Some(last)),
            Err(error) => (error, None),
        };
        let failure = self.args.database.failure(&error);
        Err(failure.and(perhaps.map_or_else(|| go_on(self.committed), |last| look(self.committed, last))))
    }

    fn report(&self) -> Result<(), Failure> {
        if !self.args.progress {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.committed).and_then(|()| out.flush()).map_err(|error| {
            Failure::no(format_args!("standard output does not take the progress: {error}")).and(go_on(self.committed))
        })
    }
}

/// What is in, and how to do the rest once the cause is mended.
fn go_on(committed: u64) -> String {
    let next = committed + 1;
    match committed {
        0 => "No line of standard input is in.".to_owned(),
        1 => format!("Line 1 of standard input is in, and no other. To go on after it: tail -n +{next} FILE"),
        _ => {
            let last = output::count(committed);
            format!(
                "Lines 1 to {last} of standard input are in, and no other. To go on after them: tail -n +{next} FILE"
            )
        }
    }
}

/// The same where the lines up to `perhaps` may be in as well.
fn look(committed: u64, perhaps: u64) -> String {
    let [first, last] = [committed + 1, perhaps].map(output::count);
    let doubtful = if first == last { format!("Line {first}") } else { format!("Lines {first} to {last}") };
    let (none, all) = (committed + 1, perhaps + 1);
    format!(
        "{doubtful} of standard input may be in or not, all lines before are, none after. To go on: \
         tail -n +{all} FILE if they are in, tail -n +{none} FILE if not"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_say_which_lines_are_in_and_where_to_go_on() {
        assert_eq!(go_on(0), "No line of standard input is in.");
        assert!(go_on(1).starts_with("Line 1 of standard input is in, and no other."));
        assert!(go_on(1).ends_with("tail -n +2 FILE"));
        assert!(go_on(12_345).contains("Lines 1 to 12,345 of") && go_on(12_345).ends_with("tail -n +12346 FILE"));
        let look = [look(1_000, 1_500), look(7, 8)];
        assert!(look[0].starts_with("Lines 1,001 to 1,500 of") && look[1].starts_with("Line 8 of"), "{look:?}");
        assert!(look[0].contains("tail -n +1501 FILE if they are in, tail -n +1001 FILE if not"), "{look:?}");
    }
}
