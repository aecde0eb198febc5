//! Other processes: this very test binary, asked for one part that is played only in a process of its own.
//!
//! The two speak in lines. What the child says begins with `@`, so that it stands out from what the test harness says.
#![allow(dead_code, reason = "each user includes this file and takes what it needs")]

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
#[cfg(feature = "tls")]
use std::process::Output;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};

const PART: &str = "EDGE_OUTBOX_TEST_PART";
const DATABASE: &str = "EDGE_OUTBOX_TEST_DATABASE";

/// What a process does with the database it is given. Each test binary lists its own, by name, as `PARTS`.
pub type Part = fn(&Path);

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

    /// Plays it with more set for the process than the part: its environment, what it is started by.
    pub fn play_with(part: &str, database: &Path, set: impl FnOnce(&mut Command)) -> Self {
        let mut command = Self::command(part, database);
        set(&mut command);
        Self::begin(&mut command).unwrap()
    }

    /// Plays it in the place of a shell that has done something first: what is set for a process stays when another
    /// program takes its place.
    pub fn play_after(shell: &str, part: &str, database: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")]).arg(env::current_exe().unwrap());
        Self::begin(Self::set(&mut command, part, database)).unwrap()
    }

    fn command(part: &str, database: &Path) -> Command {
        let mut command = Command::new(env::current_exe().unwrap());
        Self::set(&mut command, part, database);
        command
    }

    fn set<'c>(command: &'c mut Command, part: &str, database: &Path) -> &'c mut Command {
        command.args(["--exact", "child::a_part_in_a_process_of_its_own", "--nocapture"]);
        command.env(PART, part).env(DATABASE, database).stdin(Stdio::piped()).stdout(Stdio::piped())
    }

    fn begin(command: &mut Command) -> io::Result<Self> {
        let mut process = command.spawn()?;
        let says = BufReader::new(process.stdout.take().unwrap());
        Ok(Child { process, says })
    }

    /// What it says next.
    #[track_caller]
    pub fn hear(&mut self) -> String {
        self.hear_or_end().expect("the other process ended without a word")
    }

    /// What it says next; `None` when it ended without a word.
    pub fn hear_or_end(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.says.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(said) = line.strip_prefix('@') {
                return Some(said.trim_end().to_owned());
            }
        }
    }

    /// Gives it a cue.
    #[track_caller]
    pub fn cue(&mut self) {
        self.tell("go on");
    }

    /// Tells it something, in a line.
    #[track_caller]
    pub fn tell(&mut self, words: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{words}").unwrap();
    }

    /// Tells it something, and hears what it says next.
    #[track_caller]
    pub fn ask(&mut self, words: &str) -> String {
        self.tell(words);
        self.hear()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it has ended, however it ends.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Ends it without a chance to clean up, and waits until it is gone.
    pub fn kill(mut self) -> ExitStatus {
        self.kill_now()
    }

    pub fn kill_now(&mut self) -> ExitStatus {
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
    listen().is_some()
}

/// What a child is told next; `None` when its input was closed.
pub fn listen() -> Option<String> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line).unwrap();
    (read > 0).then(|| line.trim_end().to_owned())
}

#[test]
fn a_part_in_a_process_of_its_own() {
    let Ok(name) = env::var(PART) else { return };
    let (_, play) = crate::PARTS.iter().find(|(part, _)| *part == name).unwrap();
    play(&PathBuf::from(env::var_os(DATABASE).unwrap()));
}
