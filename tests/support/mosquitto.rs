//! A real broker for tests, examples and benchmarks: a mosquitto process of our own on a port of its own, and a
//! subscriber that shares no code with the adapter.

#![allow(dead_code, reason = "each user includes this file and takes what it needs")]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{Client, Event, Incoming, MqttOptions};
use tempfile::TempDir;

/// How long anything of a broker on the same machine may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mosquitto that listens on 127.0.0.1, lets everybody in, and limits nothing. Killed on drop.
pub struct Mosquitto {
    port: u16,
    tls_port: Option<u16>,
    folder: TempDir,
    process: Option<Child>,
}

impl Mosquitto {
    /// One that forgets everything when it ends.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// One with more lines in its configuration, for example `persistence true`, `max_inflight_messages 20` or
    /// `acl_file acl`; a later line outdoes ours. Its working folder is [`folder`](Self::folder).
    pub fn start_with(lines: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), lines)
    }

    /// The same in a folder that already holds what the lines speak of.
    pub fn start_in(folder: TempDir, lines: &[&str]) -> Self {
        Mosquitto { port: 0, tls_port: None, folder, process: None }.find_ports(lines)
    }

    /// The same with a second listener, which speaks TLS. `lines` say how: `certfile` and `keyfile`, and for client
    /// certificates `cafile` and `require_certificate true`. The first one stays plain, for subscribers.
    pub fn start_tls(folder: TempDir, lines: &[&str]) -> Self {
        Mosquitto { port: 0, tls_port: Some(0), folder, process: None }.find_ports(lines)
    }

    fn find_ports(mut self, lines: &[&str]) -> Self {
        for _ in 0..20 {
            self.port = free_port();
            self.tls_port = self.tls_port.map(|_| free_port());
            self.configure(lines);
            if self.try_start() {
                return self;
            }
        }
        panic!("mosquitto found its port taken 20 times over; it says:\n{}", self.log());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it speaks TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("it was started with start_tls")
    }

    /// For [`Mqtt::from_url`](edge_outbox::broker::Mqtt::from_url).
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the broker wrote about itself.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends it without a word to anybody, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Ends it as a service manager does, and waits until it has ended: it says nothing to its clients, and writes down
    /// what it has where it was started with `persistence true`.
    pub fn end(&mut self) {
        self.signal("TERM");
        let ended = self.process.take().expect("it runs").wait().expect("a child of ours");
        assert!(ended.success(), "mosquitto ended with {ended}:\n{}", self.log());
    }

    /// Starts it again on the same port with the same configuration.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        while !self.try_start() {
            assert!(Instant::now() < deadline, "mosquitto does not come back on its port:\n{}", self.log());
        }
    }

    /// Sends it a signal, for example `HUP`, upon which it reads its access list anew.
    pub fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("it runs").id();
        // The shell's own: not every machine has /bin/kill.
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
        assert!(sent.expect("a shell").success(), "mosquitto is not there for {name}");
    }

    /// Has one with `persistence true` write down what it has, and waits until that is done.
    pub fn save(&self) {
        // It writes a new file and puts that in the place of the old one.
        let file = || fs::metadata(self.folder().join("mosquitto.db")).map_or(0, |metadata| metadata.ino());
        let before = file();
        self.signal("USR1");
        let deadline = Instant::now() + PATIENCE;
        while file() == before {
            assert!(Instant::now() < deadline, "mosquitto does not save:\n{}", self.log());
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn configure(&self, lines: &[&str]) {
        // as root mosquitto would become a user who may not enter our folder; for everybody else `user` means nothing
        // and with an unlimited queue, mosquitto before 2.0.22 hangs up on a client whose message it refuses (#3244)
        let ours = format!(
            "listener {} 127.0.0.1\nuser root\nallow_anonymous true\nmax_inflight_messages 0\n\
             max_queued_messages 1000000\nset_tcp_nodelay true\npersistence_location {}/\n",
            self.port,
            self.folder.path().display()
        );
        // what follows a listener's line belongs to it
        let tls = self.tls_port.map(|port| format!("listener {port} 127.0.0.1\n")).unwrap_or_default();
        fs::write(self.folder.path().join("conf"), ours + &tls + &lines.join("\n") + "\n")
            .expect("the broker's configuration");
    }

    /// Whether it runs and accepts; if not, it has ended.
    fn try_start(&mut self) -> bool {
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).expect("its log");
        let mut process = Command::new(find_mosquitto())
            .args(["-c", "conf"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log)
            .spawn()
            .expect("mosquitto starts");
        let deadline = Instant::now() + PATIENCE;
        loop {
            // ended by itself: the port is taken, or the configuration is wrong; so whoever accepts below is this one
            if process.try_wait().expect("a child of ours").is_some() {
                return false;
            }
            let ports = [Some(self.port), self.tls_port].into_iter().flatten();
            if ports.map(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port))).all(|connected| connected.is_ok()) {
                thread::sleep(Duration::from_millis(5));
                if process.try_wait().expect("a child of ours").is_some() {
                    return false;
                }
                self.process = Some(process);
                return true;
            }
            assert!(Instant::now() < deadline, "mosquitto does not accept:\n{}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// A subscriber to `filter` with QoS 2, which is there when this returns.
    pub fn subscribe(&self, filter: &str) -> Subscriber {
        Subscriber::start(self.port, filter)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

fn find_mosquitto() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian puts it where only root's PATH looks
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("mosquitto")).find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "mosquitto is not installed, and these tests want a real broker: `apt-get install mosquitto` on Debian, \
             Ubuntu and Raspberry Pi OS, `brew install mosquitto` on macOS"
        )
    })
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}

/// One message as a subscriber got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<(String, String)>,
    pub content_type: Option<String>,
    /// What was left of it, in seconds.
    pub expiry: Option<u32>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Vec<u8>>,
}

impl Received {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("a payload of text")
    }

    /// The first user property of this name.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Collects what the broker passes on, in a thread and a connection of its own, until the connection ends.
pub struct Subscriber {
    client: Client,
    received: Receiver<Received>,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    pub fn start(port: u16, filter: &str) -> Self {
        let mut options = MqttOptions::new(format!("subscriber{}", free_port()), "127.0.0.1", port);
        options.set_max_packet_size(Some(268_435_455));
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe(filter, QoS::ExactlyOnce).expect("a fresh client takes it");
        let (there, subscribed) = mpsc::channel();
        let (send, received) = mpsc::channel();
        let thread = thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Incoming::SubAck(_))) => there.send(()).expect("start waits for it"),
                    Ok(Event::Incoming(Incoming::Publish(publish))) => {
                        let properties = publish.properties.unwrap_or_default();
                        let one = Received {
                            topic: String::from_utf8(publish.topic.to_vec()).expect("topics are UTF-8"),
                            payload: publish.payload.to_vec(),
                            qos: publish.qos as u8,
                            retain: publish.retain,
                            properties: properties.user_properties,
                            content_type: properties.content_type,
                            expiry: properties.message_expiry_interval,
                            response_topic: properties.response_topic,
                            correlation_data: properties.correlation_data.map(|data| data.to_vec()),
                        };
                        if send.send(one).is_err() {
                            break;
                        }
                    }
                    Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) | Err(_) => break,
                    Ok(_) => {}
                }
            }
        });
        subscribed.recv_timeout(PATIENCE).expect("the broker answers SUBSCRIBE");
        Subscriber { client, received, thread: Some(thread) }
    }

    /// The next message, if one comes in time.
    pub fn next(&self, within: Duration) -> Option<Received> {
        self.received.recv_timeout(within).ok()
    }

    /// The next `count` messages.
    pub fn take(&self, count: usize) -> Vec<Received> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            all.push(self.next(left).unwrap_or_else(|| panic!("{} of {count} messages came in time", all.len())));
        }
        all
    }

    /// Everything up to the message whose payload is `last`, which it does not contain.
    pub fn until(&self, last: &[u8]) -> Vec<Received> {
        let mut all = Vec::new();
        loop {
            let one = self.next(PATIENCE).unwrap_or_else(|| panic!("{} messages came, but not the last", all.len()));
            if one.payload == last {
                return all;
            }
            all.push(one);
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.client.try_disconnect().is_ok() {
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// A stretch of network in front of a broker that can be cut.
pub struct Cable {
    port: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    pub fn to(broker: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let streams = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&streams);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect((Ipv4Addr::LOCALHOST, broker))) else {
                    continue;
                };
                let _ = client.set_nodelay(true);
                let _ = server.set_nodelay(true);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { continue };
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
                all.lock().expect("no panic holds it").extend([client, server]);
            }
        });
        Ok(Cable { port, streams })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection that goes through it, in the middle of whatever it carries.
    pub fn cut(&self) {
        for stream in self.streams.lock().expect("no panic holds it").drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}
