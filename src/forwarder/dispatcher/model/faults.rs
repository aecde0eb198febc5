//! What may still go wrong, and how often.

use crate::broker::Verdict;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Crash,
    PowerCut,
    Stop,
    /// The session breaks.
    Cut,
    NoSession,
    /// Nothing is heard for as long as the dispatcher has patience.
    Silence,
    LoseAnswer,
    LateAnswer,
    LateRefusal,
    Drop,
    Later,
    Never,
    Alone,
    Topic,
    Write,
}

const KINDS: usize = Fault::Write as usize + 1;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Faults([u8; KINDS]);

impl Fault {
    pub fn refusal(verdict: Verdict) -> Fault {
        match verdict {
            Verdict::Later => Fault::Later,
            Verdict::Never => Fault::Never,
            Verdict::Alone => Fault::Alone,
            Verdict::Topic => Fault::Topic,
        }
    }
}

impl Faults {
    pub fn new(faults: &[(Fault, u8)]) -> Self {
        let mut counts = [0; KINDS];
        faults.iter().for_each(|(fault, count)| counts[*fault as usize] = *count);
        Faults(counts)
    }

    pub fn left(&self, fault: Fault) -> bool {
        self.0[fault as usize] > 0
    }

    pub fn are_spent(&self) -> bool {
        self.0 == [0; KINDS]
    }

    /// Whether there was one left.
    pub fn spend(&mut self, fault: Fault) -> bool {
        let left = self.left(fault);
        self.0[fault as usize] -= u8::from(left);
        left
    }
}
