//! Which lines go into one transaction.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::enqueue::reader::{End, Piece};

/// Where no line comes for so long, those that are there are written.
const PAUSE: Duration = Duration::from_millis(200);
/// And however they trickle, no line waits longer for others.
const LONGEST: Duration = Duration::from_secs(1);
/// Bytes after which no further line is added.
const MOST_BYTES: usize = 4 << 20;

pub struct Gathering {
    pieces: Receiver<Piece>,
    /// What is left of the last piece.
    lines: std::vec::IntoIter<Vec<u8>>,
    most: usize,
}

/// What comes next.
enum Next {
    Line(Vec<u8>),
    /// Nothing, by the time given.
    Pause,
    End(End),
}

impl Gathering {
    /// At most so many lines at once.
    pub fn new(pieces: Receiver<Piece>, most: usize) -> Self {
        Gathering { pieces, lines: Vec::new().into_iter(), most }
    }

    /// The lines of the next transaction, and the end if it comes after them. Waits for the first one as long as it takes.
    pub fn next(&mut self) -> (Vec<Vec<u8>>, Option<End>) {
        let mut lines = Vec::new();
        let mut bytes = 0;
        let mut longest = None;
        while lines.len() < self.most && bytes < MOST_BYTES {
            match self.line(longest) {
                Next::Line(line) => {
                    longest = longest.or_else(|| Some(Instant::now() + LONGEST));
                    bytes += line.len();
                    lines.push(line);
                }
                Next::Pause => break,
                Next::End(end) => return (lines, Some(end)),
            }
        }
        (lines, None)
    }

    fn line(&mut self, longest: Option<Instant>) -> Next {
        loop {
            if let Some(line) = self.lines.next() {
                return Next::Line(line);
            }
            let piece = match longest {
                None => self.pieces.recv().map_err(RecvTimeoutError::from),
                Some(longest) => self.pieces.recv_deadline(longest.min(Instant::now() + PAUSE)),
            };
            match piece {
                Ok(Piece::Lines(lines)) => self.lines = lines.into_iter(),
                Ok(Piece::End(end)) => return Next::End(end),
                Err(RecvTimeoutError::Timeout) => return Next::Pause,
                // Not to be taken for the end of the lines.
                Err(RecvTimeoutError::Disconnected) => {
                    return Next::End(End::Failed(std::io::Error::other("its reader ended before it")));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    fn piece(lines: usize, bytes: usize) -> Piece {
        Piece::Lines(vec![vec![b'x'; bytes]; lines])
    }

    fn sizes(gathering: &mut Gathering, times: usize) -> Vec<usize> {
        (0..times).map(|_| gathering.next().0.len()).collect()
    }

    #[test]
    fn no_more_lines_and_bytes_than_allowed_come_together() {
        let (tell, pieces) = unbounded();
        let mut gathering = Gathering::new(pieces, 7);
        for _ in 0..3 {
            assert!(tell.send(piece(5, 10)).is_ok());
        }
        assert!(tell.send(Piece::End(End::Whole)).is_ok());
        assert_eq!(sizes(&mut gathering, 3), [7, 7, 1]);

        let (tell, pieces) = unbounded();
        let mut gathering = Gathering::new(pieces, 10_000);
        assert!(tell.send(piece(9, MOST_BYTES / 4)).is_ok());
        assert!(tell.send(Piece::End(End::Whole)).is_ok());
        assert_eq!(sizes(&mut gathering, 3), [4, 4, 1]);
    }

    #[test]
    fn a_pause_ends_it_and_so_does_a_line_that_waited_long_enough() {
        let (tell, pieces) = unbounded();
        let mut gathering = Gathering::new(pieces, 500);
        assert!(tell.send(piece(3, 10)).is_ok());
        assert!(matches!(gathering.next(), (lines, None) if lines.len() == 3));

        // A line every now and then, without a pause, and without an end.
        let begun = Instant::now();
        let trickle = std::thread::spawn(move || {
            while tell.send(piece(1, 10)).is_ok() {
                std::thread::sleep(PAUSE / 20);
            }
        });
        let (lines, end) = gathering.next();
        assert!(!lines.is_empty() && lines.len() < 500 && end.is_none());
        assert!(begun.elapsed() < LONGEST * 20);
        drop(gathering);
        assert!(trickle.join().is_ok());
    }

    #[test]
    fn a_reader_that_is_gone_is_no_end_of_the_lines() {
        let (tell, pieces) = unbounded();
        assert!(tell.send(piece(2, 10)).is_ok());
        drop(tell);
        assert!(matches!(Gathering::new(pieces, 500).next(), (lines, Some(End::Failed(_))) if lines.len() == 2));
    }
}
