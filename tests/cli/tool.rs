//! The program, run from a test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag::register_conditional_default;

use crate::device::SOON;

/// What whoever runs the tests lets be ignored, as nohup does and a shell for what it starts in the background, would be
/// ignored by the program, too. What has a handler is not: that of a program it starts is the default one again.
fn ignore_nothing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            register_conditional_default(signal, Arc::new(AtomicBool::new(true))).unwrap();
        }
    });
}

/// The program with these arguments, without the environment of whoever runs the tests.
pub fn command<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    ignore_nothing();
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-outbox"));
    command.args(args).stdin(Stdio::null());
    for name in ["RUST_LOG", "EDGE_OUTBOX_TO", "EDGE_OUTBOX_USER", "EDGE_OUTBOX_PASSWORD", "COLUMNS", "TERM"] {
        command.env_remove(name);
    }
    command
}

/// The same program, where SIGHUP is ignored from the beginning.
pub fn as_nohup_starts(program: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
    shell
}

/// What it said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    /// What it printed, of a run that went well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        String::from_utf8(self.out).unwrap()
    }

    /// What it said on standard error, of a run that ended so. A panic is no way to say anything.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { code: output.status.code(), out: output.stdout, err }
    }
}

/// Runs it to its end.
#[track_caller]
pub fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ran {
    command(args).output().unwrap().into()
}

/// Runs it to its end with something on its standard input.
#[track_caller]
pub fn run_with<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>, input: &[u8]) -> Ran {
    let mut command = command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // It may end before it has read everything.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap().into()
    })
}

/// One that goes on, `forward` for example; killed when it is dropped.
pub struct Running {
    pub child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = mpsc::channel();
        let err = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || err.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Running { child, lines, heard: Vec::new() }
    }

    /// Waits until a line of its standard error has these words.
    #[track_caller]
    pub fn hear(&mut self, words: &str) -> String {
        let until = Instant::now() + SOON;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.heard.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
        panic!("it never said {words:?}, but:\n{}", self.heard.join("\n"));
    }

    /// By the shell's own kill: not every machine has another.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until it has ended, and answers all that it said on standard error.
    #[track_caller]
    pub fn wait(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + SOON;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end; it said:\n{}", self.heard.join("\n"));
            thread::sleep(Duration::from_millis(5));
        };
        let mut said = std::mem::take(&mut self.heard);
        said.extend(self.lines.iter());
        (status, said.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
