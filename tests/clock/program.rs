//! The program under the clock: this very test binary, in a process of its own.

use std::env;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use edge_outbox::rusqlite::Connection;

use crate::clock::Clock;
use crate::{lives, waits};

const PART: &str = "EDGE_OUTBOX_CLOCK_PART";
const DATABASE: &str = "EDGE_OUTBOX_CLOCK_DATABASE";
const PORT: &str = "EDGE_OUTBOX_CLOCK_PORT";

/// A process that plays a part; killed when it is dropped.
pub struct Program {
    process: Child,
    says: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub fn start(part: &str, clock: &Clock, database: &Path, port: u16) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "program::a_part_in_a_process_of_its_own", "--nocapture"]);
        command.env(PART, part).env(DATABASE, database).env(PORT, port.to_string()).stdout(Stdio::piped());
        clock.preload(&mut command);
        let mut process = command.spawn().unwrap();
        let says = BufReader::new(process.stdout.take().unwrap()).lines();
        Program { process, says }
    }

    /// Waits until it says this, and must not end before.
    pub fn hear(&mut self, words: &str) {
        let heard = self.says.by_ref().map(Result::unwrap).any(|line| line == format!("@{words}"));
        assert!(heard, "it ended, and did not say {words:?}");
    }

    /// Waits until it has ended well by itself.
    pub fn end(mut self) {
        self.says.by_ref().for_each(drop);
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_part_in_a_process_of_its_own() {
    let Ok(part) = env::var(PART) else { return };
    let database = env::var_os(DATABASE).unwrap();
    let port = env::var(PORT).unwrap().parse().unwrap();
    match part.as_str() {
        "lives" => lives::lives(Path::new(&database), port),
        "waits" => waits::waits(Path::new(&database)),
        other => panic!("no part {other:?}"),
    }
}

/// Said by a program.
pub fn say(words: &str) {
    println!("\n@{words}");
}

/// A connection that knows nothing of the outbox.
pub fn sql(database: &Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(crate::SOON).unwrap();
    connection
}

pub fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}
