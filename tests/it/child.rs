//! Other processes: this very test binary, asked for one part that is played only in a process of its own.
//!
//! The two speak in lines. What the child says begins with `@`, so that it stands out from what the test harness says.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
#[cfg(feature = "tls")]
use std::process::Output;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};

const PART: &str = "EDGE_OUTBOX_TEST_PART";
const DATABASE: &str = "EDGE_OUTBOX_TEST_DATABASE";

/// What a process does with the database it is given.
type Part = fn(&Path);

/// The parts, by name.
const PARTS: &[(&str, Part)] = &[
    ("budget::fills", crate::budget::fills),
    ("opening::opens", crate::opening::opens),
    ("forwarding::commits", crate::forwarding::commits),
    ("forwarding::dies_with_messages_in_flight", crate::forwarding::dies_with_messages_in_flight),
    ("lifecycle::forwards", crate::lifecycle::forwards),
    ("lifecycle::dies_in_a_transaction", crate::lifecycle::dies_in_a_transaction),
    ("hostile::settles_everything", crate::hostile::settles_everything),
    ("offline::waits", crate::offline::waits),
    ("offline::waits_in_vain", crate::offline::waits_in_vain),
    #[cfg(feature = "tls")]
    ("secrets::goes_through_everything", crate::secrets::goes_through_everything),
];

/// A process that plays a part; killed when it is dropped.
pub struct Child {
    process: std::process::Child,
    says: BufReader<ChildStdout>,
}

impl Child {
    pub fn play(part: &str, database: &Path) -> Self {
        Self::begin(&mut Self::command(part, database)).unwrap()
    }

    /// Plays it as a user who may do nothing that is not allowed to everybody.
    pub fn play_as_nobody(part: &str, database: &Path) -> io::Result<Self> {
        const NOBODY: u32 = 65_534;
        Self::begin(Self::command(part, database).uid(NOBODY).gid(NOBODY))
    }

    /// Plays it to its end, and keeps all that it prints.
    #[cfg(feature = "tls")]
    pub fn output(part: &str, database: &Path) -> Output {
        Self::command(part, database).stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap()
    }

    fn command(part: &str, database: &Path) -> Command {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "child::a_part_in_a_process_of_its_own", "--nocapture"]);
        command.env(PART, part).env(DATABASE, database).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    fn begin(command: &mut Command) -> io::Result<Self> {
        let mut process = command.spawn()?;
        let says = BufReader::new(process.stdout.take().unwrap());
        Ok(Child { process, says })
    }

    /// What it says next.
    #[track_caller]
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.says.read_line(&mut line).unwrap(), 0, "the other process ended without a word");
            if let Some(said) = line.strip_prefix('@') {
                return said.trim_end().to_owned();
            }
        }
    }

    /// Gives it a cue.
    #[track_caller]
    pub fn cue(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    }

    /// Ends it without a chance to clean up, and waits until it is gone.
    pub fn kill(mut self) -> ExitStatus {
        self.process.kill().unwrap();
        self.process.wait().unwrap()
    }

    /// Closes its input, and waits until it has ended by itself.
    #[track_caller]
    pub fn end(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Said by a child.
pub fn say(words: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    writeln!(out, "\n@{words}").and_then(|()| out.flush()).unwrap();
}

/// Waits, in a child, for a cue; false when there are no more.
pub fn wait_for_cue() -> bool {
    io::stdin().lock().read_line(&mut String::new()).unwrap() > 0
}

#[test]
fn a_part_in_a_process_of_its_own() {
    let Ok(name) = env::var(PART) else { return };
    let (_, play) = PARTS.iter().find(|(part, _)| *part == name).unwrap();
    play(&PathBuf::from(env::var_os(DATABASE).unwrap()));
}
