//! Whoever counts what arrived: a `mosquitto_sub`, which shares nothing with this crate, not even a codec.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Far beyond what any of this takes, the slowest machine included.
const SOON: Duration = Duration::from_secs(60);

const BEGIN: &str = "mark/begin here";
const END: &str = "mark/end here";

/// A subscriber with a session that outlives its connections and the broker's, so that nothing gets past it.
/// With QoS 1: a broker that comes back from its disk may use a packet id twice, which a QoS 2 receiver takes for the
/// same message.
pub struct Subscriber {
    process: Child,
    port: u16,
    lines: Receiver<String>,
}

impl Subscriber {
    /// It is there when this returns.
    pub fn start(port: u16, filter: &str) -> Self {
        publish(port, BEGIN, &["--retain"]);
        let mut process = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "--id", "counter", "--disable-clean-session"])
            .args(["-q", "1", "-t", filter, "-t", "mark/#", "-F", "%t %p"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub starts; Debian has it in mosquitto-clients");
        let out = BufReader::new(process.stdout.take().expect("it is piped"));
        let (send, lines) = mpsc::channel();
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let subscriber = Subscriber { process, port, lines };
        subscriber.until(BEGIN);
        subscriber
    }

    /// Everything that the broker has passed on since this was asked last, each as topic and payload, in its order.
    pub fn collect(&self) -> Vec<String> {
        publish(self.port, END, &[]);
        let mut received = self.until(END);
        // It is told again whenever it connects.
        received.retain(|line| line != BEGIN);
        received
    }

    fn until(&self, last: &str) -> Vec<String> {
        let deadline = Instant::now() + SOON;
        let mut lines = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match self.lines.recv_timeout(left) {
                Ok(line) if line == last => return lines,
                Ok(line) => lines.push(line),
                Err(why) => panic!("mosquitto_sub told of {} messages, but not of the last: {why}", lines.len()),
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// By a process of its own: from before anything that comes after it, to after everything that came before.
fn publish(port: u16, mark: &str, more: &[&str]) {
    let (topic, payload) = mark.split_once(' ').expect("topic and payload");
    let status = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic, "-m", payload])
        .args(more)
        .status();
    assert!(status.expect("mosquitto_pub starts").success(), "mosquitto_pub cannot publish");
}
