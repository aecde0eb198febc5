//! Lines of a stream, read by a thread of its own, so that whoever gathers them can stop waiting.

use std::io::{self, Read};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Bytes asked of the stream at once.
const PIECE: usize = 64 * 1024;
/// Pieces read ahead. Each is as long as one reading and one line at most.
const AHEAD: usize = 2;

pub enum Piece {
    /// Those that ended in one reading; without their `\n`.
    Lines(Vec<Vec<u8>>),
    /// The last of all.
    End(End),
}

#[derive(Debug)]
pub enum End {
    /// The stream's own.
    Whole,
    /// The next line is longer than it may be.
    TooLong,
    Failed(io::Error),
}

/// The thread ends with the stream, or with the process: nothing can wake it while it reads.
pub fn start(stream: impl Read + Send + 'static, longest: usize) -> io::Result<Receiver<Piece>> {
    let (tell, pieces) = bounded(AHEAD);
    thread::Builder::new().name("edge-outbox-lines".to_owned()).spawn(move || read(stream, longest, &tell))?;
    Ok(pieces)
}

fn read(mut stream: impl Read, longest: usize, tell: &Sender<Piece>) {
    let mut buffer = vec![0; PIECE];
    let mut line = Vec::new(); // begun, not ended
    let end = loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) => break End::Whole,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break End::Failed(error),
        };
        let (lines, fits) = split(&buffer[..read], &mut line, longest);
        if !lines.is_empty() && tell.send(Piece::Lines(lines)).is_err() {
            return;
        }
        if !fits {
            break End::TooLong;
        }
    };
    if matches!(end, End::Whole) && !line.is_empty() && tell.send(Piece::Lines(vec![line])).is_err() {
        return;
    }
    let _ = tell.send(Piece::End(end));
}

/// The lines that end in `read`, the first of which began as `line`, and whether all of them, and the one that is begun
/// there, are as short as they must be.
fn split(read: &[u8], line: &mut Vec<u8>, longest: usize) -> (Vec<Vec<u8>>, bool) {
    let mut lines = Vec::new();
    for part in read.split_inclusive(|byte| *byte == b'\n') {
        let text = part.strip_suffix(b"\n").unwrap_or(part);
        if line.len() + text.len() > longest {
            return (lines, false);
        }
        line.extend_from_slice(text);
        if text.len() < part.len() {
            lines.push(std::mem::take(line));
        }
    }
    (lines, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that gives so many bytes at once.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()));
            buffer[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }
    }

    fn lines(text: &'static str, at_once: usize, longest: usize) -> (Vec<String>, End) {
        let pieces = start(Drops(text.as_bytes(), at_once), longest).expect("a thread");
        let mut lines = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Lines(more) => lines.extend(more),
                Piece::End(end) => {
                    return (lines.into_iter().map(|line| String::from_utf8(line).expect("text")).collect(), end);
                }
            }
        }
        panic!("no end was told");
    }

    #[test]
    fn wherever_the_stream_is_cut_the_lines_are_the_same() {
        for at_once in 1..12 {
            for (text, expected) in [
                ("", &[][..]),
                ("\n", &[""]),
                ("a", &["a"]),
                ("one\ntwo\r\n\n three", &["one", "two\r", "", " three"]),
                ("one\n\n", &["one", ""]),
            ] {
                let (lines, end) = lines(text, at_once, 6);
                assert_eq!(lines, expected, "{text:?}, {at_once} at once");
                assert!(matches!(end, End::Whole), "{end:?}");
            }
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_allowed_and_no_byte_longer() {
        for at_once in 1..12 {
            assert_eq!(lines("12345\n12345", at_once, 5).0, ["12345", "12345"]);
            for text in ["12345\n123456", "12345\n123456\n1\n"] {
                let (lines, end) = lines(text, at_once, 5);
                assert_eq!(lines, ["12345"], "{text:?}, {at_once} at once");
                assert!(matches!(end, End::TooLong), "{end:?}");
            }
        }
    }
}
