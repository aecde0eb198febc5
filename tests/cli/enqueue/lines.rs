//! `enqueue --lines`: a message a line, and where to go on when it ends early.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::io::Errno;

use super::{MB, count, device, enqueue, given_and_not_ended, refused_by_its_reader};
use crate::card::Card;
use crate::device::{Device, SOON, value};
use crate::faults::{ANY_FILE, Does, Faults, SYNC};
use crate::tool::Ran;

/// Runs it to its end with these lines.
#[track_caller]
fn lines(device: &Device, args: &[&str], input: &[u8]) -> Ran {
    let file = device.folder().join("lines");
    fs::write(&file, input).unwrap();
    let mut command = enqueue(device, &["--lines"]);
    command.args(args).stdin(File::open(file).unwrap()).output().unwrap().into()
}

fn payloads(device: &Device) -> Vec<Vec<u8>> {
    let sql = device.sql();
    let mut rows = sql.prepare("SELECT CAST(payload AS BLOB) FROM outbox ORDER BY id").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// The rows are the lines `1`, `2`, `3` and so on to this one.
#[track_caller]
fn assert_numbered(device: &Device, last: u64) {
    let wrong = "SELECT count(*) FROM outbox WHERE payload <> CAST(id AS TEXT)";
    assert_eq!((count(device), value::<i64>(&device.sql(), wrong, [])), (last as i64, 0));
}

fn numbers(last: u64) -> Vec<u8> {
    (1..=last).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

#[test]
fn a_hundred_thousand_lines_are_all_in_and_in_their_order() {
    let device = device();
    let ran = lines(&device, &["--batch", "500"], &numbers(100_000));
    assert_eq!(ran.err, "edge-outbox: enqueued 100,000 messages\n");
    assert_eq!(ran.ok(), "");
    assert_numbered(&device, 100_000);
}

#[test]
fn a_line_is_a_message_as_it_is_without_the_newline_that_ends_it() {
    for batch in ["1", "2", "500"] {
        let device = device();
        let input = b"one\n\n  spaces \r\n\xff\xfe\nnul\0nul\n\n\xc3\xa4\nlast";
        let ran = lines(&device, &["--batch", batch, "--key", "roof"], input);
        assert_eq!(ran.err, "edge-outbox: enqueued 8 messages\n");
        let expected: [&[u8]; 8] = [b"one", b"", b"  spaces \r", b"\xff\xfe", b"nul\0nul", b"", b"\xc3\xa4", b"last"];
        assert_eq!(payloads(&device), expected);
        let bytes = "SELECT group_concat(id) FROM outbox WHERE typeof(payload) = 'blob'";
        assert_eq!(value::<String>(&device.sql(), bytes, []), "4");
        assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE key = 'roof'", []), 8);
    }
}

#[test]
fn no_line_and_one_line_are_counted_as_such() {
    for (input, rows, said) in [(&b""[..], 0, "0 messages"), (b"\n", 1, "1 message"), (b"x", 1, "1 message")] {
        let device = device();
        assert_eq!(lines(&device, &["--batch", "5"], input).err, format!("edge-outbox: enqueued {said}\n"));
        assert_eq!(count(&device), rows);
    }
}

#[test]
fn progress_is_the_last_line_of_each_transaction() {
    let device = device();
    assert_eq!(lines(&device, &["--progress"], b"a\nb\nc").ok(), "1\n2\n3\n");
    assert_eq!(lines(&device, &["--progress", "--batch", "4"], &numbers(10)).ok(), "4\n8\n10\n");
    // Large ones are not gathered by the thousand: 4 MiB go together, and these are 8 and a bit.
    let line = [vec![b'x'; 250_000], b"\n".to_vec()].concat();
    let said = lines(&device, &["--progress", "--batch", "1000"], &line.repeat(35)).ok();
    let said: Vec<u64> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert!(said.len() >= 3 && said[0] <= 17 && said.windows(2).all(|two| two[1] - two[0] <= 17), "{said:?}");
    assert_eq!(said.last(), Some(&35));
}

#[test]
fn a_line_that_is_too_long_ends_it_and_all_before_are_in() {
    for batch in ["1", "3", "500"] {
        let device = device();
        let longest = vec![b'x'; 262_144];
        let input = [&b"one\n"[..], &longest, b"\nthree\nfour\n", &longest, b"x\nsix\n"].concat();
        let told = lines(&device, &["--batch", batch], &input).refused(1);
        assert!(told.contains("line 5 of standard input is longer than 262,144 bytes"), "{told}");
        assert!(told.contains("max_payload") && told.contains("Lines 1 to 4 of standard input are in"), "{told}");
        assert!(told.contains("tail -n +5 FILE"), "{told}");
        assert_eq!(payloads(&device), [&b"one"[..], &longest, b"three", b"four"]);
    }
}

#[test]
fn what_a_line_may_have_is_set_by_a_flag_or_a_file() {
    for by_flag in [true, false] {
        let device = device();
        let file = device.folder().join("outbox.toml");
        fs::write(&file, "[settings]\nmax_payload = 5\n").unwrap();
        let args = if by_flag { ["--max-payload", "5"] } else { ["--config", file.to_str().unwrap()] };
        let told = lines(&device, &[&args[..], &["--batch", "4"]].concat(), b"12345\n1\n123456\n1\n").refused(1);
        assert!(told.contains("line 3 of standard input is longer than 5 bytes"), "{told}");
        assert_eq!(payloads(&device), [&b"12345"[..], b"1"]);
    }
}

#[test]
fn a_full_outbox_takes_the_lines_that_fit_and_says_how_many() {
    for (batch, progress) in [("1", "1\n2\n3\n4\n5\n6\n7\n8\n"), ("3", "3\n6\n8\n"), ("500", "8\n")] {
        let device = device();
        let args = ["--batch", batch, "--progress", "--max-pending", "8"];
        let ran = lines(&device, &args, &numbers(100));
        assert_eq!(ran.out, progress.as_bytes());
        let told = ran.refused(1);
        assert!(told.contains("device.db: the outbox is full: 8 messages are pending"), "{told}");
        assert!(told.contains("Lines 1 to 8 of standard input are in, and no other"), "{told}");
        assert!(told.contains("tail -n +9 FILE"), "{told}");
        assert_numbered(&device, 8);

        let ran = lines(&device, &args, b"9\n");
        assert_eq!(ran.out, b"");
        assert!(ran.refused(1).contains("No line of standard input is in."));
        let told = Ran::from(enqueue(&device, &["--max-pending", "8", "9"]).output().unwrap()).refused(1);
        assert!(told.contains("the setting max_pending allows 8"), "{told}");
        assert_numbered(&device, 8);
    }
}

#[test]
fn a_line_without_end_is_not_read_into_memory() {
    let device = device();
    let (status, told) = given_and_not_ended(enqueue(&device, &["--lines"]), &[b'x'; 262_145]);
    assert_eq!(status.code(), Some(1));
    assert!(told.contains("line 1 of standard input is longer"), "{told}");
    assert!(told.contains("No line of standard input is in"), "{told}");
}

/// One that is given its lines while it runs.
struct Fed {
    child: Child,
    input: Option<ChildStdin>,
    progress: Receiver<String>,
}

impl Fed {
    fn start(mut command: Command) -> Self {
        command.arg("--lines").arg("--progress").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let progress = listen(child.stdout.take().unwrap());
        Fed { input: child.stdin.take(), child, progress }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Feeds lines with their numbers until it takes no more.
    fn feed_without_end(&mut self) {
        let mut input = io::BufWriter::new(self.input.take().unwrap());
        thread::spawn(move || (1u64..).try_for_each(|number| writeln!(input, "{number}")));
    }

    #[track_caller]
    fn reports(&self, last: &str) {
        assert_eq!(self.progress.recv_timeout(SOON).unwrap(), last);
    }

    /// The end of its input, and what it says to that.
    fn end(mut self) -> Ran {
        drop(self.input.take());
        self.child.wait_with_output().unwrap().into()
    }
}

/// Whole lines: one that a kill cut short is no report.
fn listen(out: ChildStdout) -> Receiver<String> {
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut out = BufReader::new(out);
        let mut line = String::new();
        while out.read_line(&mut line).is_ok() && line.ends_with('\n') {
            line.pop();
            let _ = tell.send(std::mem::take(&mut line));
        }
    });
    lines
}

#[test]
fn killed_all_that_it_reported_is_in_and_at_most_one_transaction_more() {
    const BATCH: u64 = 7;
    for (signal, number) in [("KILL", 9), ("TERM", 15), ("INT", 2)] {
        for reports in [0, 1, 2, 5, 20, 60, 133] {
            let device = device();
            let mut fed = Fed::start(enqueue(&device, &["--batch", "7"]));
            fed.feed_without_end();
            let mut reported = 0;
            for _ in 0..reports {
                reported = fed.progress.recv_timeout(SOON).unwrap().parse().unwrap();
            }
            let kill = format!("kill -{signal} {}", fed.child.id());
            assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
            assert_eq!(fed.child.wait().unwrap().signal(), Some(number));
            reported = fed.progress.iter().last().map_or(reported, |last| last.parse().unwrap());
            let rows = count(&device) as u64;
            assert!((reported..=reported + BATCH).contains(&rows), "{signal}: {reported} reported, {rows} are in");
            assert_numbered(&device, rows);

            // Who goes on after the rows that are in has every line once.
            let rest: Vec<u8> = (rows + 1..=rows + 20).flat_map(|line| format!("{line}\n").into_bytes()).collect();
            lines(&device, &["--batch", "7"], &rest).ok();
            assert_numbered(&device, rows + 20);
        }
    }
}

#[test]
fn slow_input_is_not_held_back_and_holds_no_lock() {
    let device = device();
    let mut fed = Fed::start(enqueue(&device, &["--batch", "500"]));
    let mut other = device.sql();
    for last in ["3", "6", "9"] {
        // A line that is begun and not ended is left alone.
        fed.feed(b"1\n2\n3\nbegun ");
        fed.reports(last);
        assert_eq!(count(&device).to_string(), last);
        let own = other.transaction_with_behavior(edge_outbox::rusqlite::TransactionBehavior::Immediate).unwrap();
        own.execute_batch("CREATE TABLE IF NOT EXISTS reading (value REAL); INSERT INTO reading VALUES (21.5)")
            .unwrap();
        own.commit().unwrap();
    }
    fed.feed(b"4");
    let ran = fed.end();
    assert_eq!(ran.err, "edge-outbox: enqueued 10 messages\n");
    let expected: [&[u8]; 10] = [b"1", b"2", b"3", b"begun 1", b"2", b"3", b"begun 1", b"2", b"3", b"begun 4"];
    assert_eq!(payloads(&device), expected);
}

#[test]
fn without_a_batch_each_line_is_in_at_once() {
    let device = device();
    let mut fed = Fed::start(enqueue(&device, &[]));
    for last in 1..=5 {
        fed.feed(b"21.5\n");
        fed.reports(&last.to_string());
        assert_eq!(count(&device), last);
    }
    fed.end().ok();
}

#[test]
fn while_the_database_is_locked_lines_wait_and_no_longer_than_told() {
    let device = device();
    let mut fed = Fed::start(enqueue(&device, &["--busy-timeout", "100ms", "--batch", "2"]));
    fed.feed(b"1\n2\n");
    fed.reports("2");
    let other = device.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    fed.feed(b"3\n4\n5\n");
    let told = fed.end().refused(1);
    assert!(told.contains("device.db") && told.contains("kept the database locked"), "{told}");
    assert!(told.contains("Lines 1 to 2 of standard input are in, and no other"), "{told}");
    assert!(told.contains("tail -n +3 FILE"), "{told}");
    other.execute_batch("COMMIT").unwrap();
    assert_numbered(&device, 2);
}

#[test]
fn a_commit_that_failed_is_told_with_both_ways_to_go_on() {
    let (device, faults) = (device(), Faults::new());
    let mut command = enqueue(&device, &["--batch", "2"]);
    faults.preload(&mut command);
    let mut fed = Fed::start(command);
    fed.feed(b"1\n2\n");
    fed.reports("2");
    faults.every(Does::Answer(Errno::IO), SYNC, ANY_FILE);
    fed.feed(b"3\n4\n");
    let told = fed.end().refused(1);
    assert!(told.contains("Lines 3 to 4 of standard input may be in or not"), "{told}");
    assert!(told.contains(&format!("edge-outbox list {} --newest", device.database().display())), "{told}");
    assert!(told.contains("tail -n +5 FILE if they are in, tail -n +3 FILE if not"), "{told}");
    assert!(matches!(count(&device), 2 | 4));
}

#[test]
fn a_disk_that_becomes_full_ends_it_and_all_it_says_is_so() {
    let Some(card) = Card::tmpfs(64 * MB) else { return };
    let device = Device::at(card.folder());
    drop(device.open_writer());
    let mut fed = Fed::start(enqueue(&device, &["--batch", "3"]));
    fed.feed(b"1\n2\n3\n");
    fed.reports("3");
    let others = card.fill();
    // The disk is looked at every now and then.
    let mut input = fed.input.take().unwrap();
    thread::spawn(move || (4u64..).try_for_each(|number| writeln!(input, "{number}")));
    let told = Ran::from(fed.child.wait_with_output().unwrap()).refused(1);
    let reported = fed.progress.iter().last().map_or(3, |last| last.parse::<u64>().unwrap());
    assert!(told.contains("device.db") && told.contains("full"), "{told}");
    assert!(told.contains(&format!("tail -n +{} FILE", reported + 1)), "{reported}: {told}");
    assert_numbered(&device, reported);
    drop(others);
}

#[test]
fn progress_that_nobody_reads_ends_it_and_says_what_is_in() {
    let device = device();
    let told = refused_by_its_reader(enqueue(&device, &["--lines", "--progress", "--batch", "2"]), &numbers(1_000));
    assert!(told.contains("standard output does not take the progress"), "{told}");
    assert!(told.contains("Lines 1 to 2 of standard input are in, and no other"), "{told}");
    assert_numbered(&device, 2);
    // Without --progress there is nothing to print.
    let mut command = enqueue(&device, &["--lines"]);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(b"3\n4\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_numbered(&device, 4);
}

#[test]
fn an_input_that_cannot_be_read_is_told() {
    let device = device();
    for args in [&["--lines"][..], &[]] {
        let folder = File::open(device.folder()).unwrap();
        let told = Ran::from(enqueue(&device, args).stdin(folder).output().unwrap()).refused(1);
        assert!(told.contains("standard input: Is a directory"), "{told}");
    }
    assert_eq!(count(&device), 0);
}

#[test]
fn two_that_write_lines_at_once_take_turns() {
    let device = device();
    let mut both: Vec<Child> = ["a", "b"]
        .map(|name| {
            let file = device.folder().join(name);
            fs::write(&file, format!("{name}\n").repeat(2_000)).unwrap();
            let mut command = enqueue(&device, &["--lines", "--batch", "10", "--key", name, "--busy-timeout", "60s"]);
            command.stdin(File::open(file).unwrap()).stderr(Stdio::null()).spawn().unwrap()
        })
        .into();
    assert!(both.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(count(&device), 4_000);
}
