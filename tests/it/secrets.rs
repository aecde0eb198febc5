//! What must not be said. A program with a logger at the finest level, which also shows everything that it holds, goes
//! through what can go wrong; all that it printed is searched for its secrets.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use edge_outbox::broker::{
    Broker, Delivery, InProcess, LastWill, Limits, Link, Mqtt, MqttSettings, Protocol, Refusal, TlsSettings, Verdict,
};
use edge_outbox::{Error, LinkState, Message, Outbox, Settings};

use crate::authority::{Authority, Leaf};
use crate::child::{Child, say};
use crate::device::{SOON, enqueue, eventually, quick, wait_for_stats, wait_for_status};
use crate::mosquitto::Mosquitto;

const USER: &str = "godwit";
const PASSWORD: &str = "spr/ng t1de%7";
const ENCODED_PASSWORD: &str = "spr%2Fng%20t1de%257";
/// Both, as `mosquitto_passwd` writes them.
const PASSWORDS: &str = "godwit:$7$101$syseS6y89GjZWM5X$OVvE4rkTLrHrkslqFWgcx2g7VKIus8gCcezU3yEgr6RkXZBR3RkTHTwWyNA4MXpBlkAO\
                         TF6Yt+MCuVn2YyIW9Q==\n";
const WRONG_PASSWORD: &str = "aut/mn t1de%8";
const PAYLOAD: &str = "the payload says heron";
const BYTES: [u8; 8] = [201, 17, 93, 250, 66, 129, 7, 8];
const HEADER: &str = "the header says bittern";
const CORRELATION: &str = "the correlation says avocet";
const WILL: &str = "the last will says dunlin";
/// May be said, and is.
const TOPIC: &str = "weather/curlew";
/// Said on purpose, in each form that is searched for: what is not found in this way is not looked for well enough.
const PLANTED: &str = "planted/redshank %9";

/// Where the broker of the program's other half is, for the program: lines in this file beside its database.
const BROKER: &str = "broker";

#[test]
fn neither_log_nor_error_nor_debug_says_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("the marsh");
    authority.write_ca(folder.path());
    authority.issue(Leaf::server(["localhost", "127.0.0.1"]), folder.path());
    let client = authority.issue(Leaf::client("roof"), folder.path());
    let key = fs::read_to_string(&client.key_file).unwrap();
    fs::write(folder.path().join("passwords"), PASSWORDS).unwrap();
    let lines = ["allow_anonymous false", "password_file passwords", "cafile ca.pem", "certfile server.pem"];
    let lines = [&lines[..], &["keyfile server.key", "require_certificate true"]].concat();
    let broker = Mosquitto::start_tls(folder, &lines);
    let device = tempfile::tempdir().unwrap();
    let place = format!("{}\n{}\n{}\n", broker.port(), broker.tls_port(), broker.folder().display());
    fs::write(device.path().join(BROKER), place).unwrap();

    let output = Child::output("secrets::goes_through_everything", &device.path().join("device.db"));
    let said = [output.stdout, output.stderr].concat();
    let shown = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("@all of it was done"), "{shown}");
    for control in [TOPIC, "TRACE", "planted"] {
        assert!(shown.contains(control), "{control} is not to be found: what is searched is not what was said");
    }
    for (form, bytes) in forms(PLANTED.as_bytes()) {
        assert!(is_in(&bytes, &said), "the planted secret is not found as {form}");
    }
    let mut secrets = vec![
        ("user", USER.as_bytes()),
        ("password", PASSWORD.as_bytes()),
        ("encoded password", ENCODED_PASSWORD.as_bytes()),
        ("wrong password", WRONG_PASSWORD.as_bytes()),
        ("payload", PAYLOAD.as_bytes()),
        ("payload of bytes", &BYTES),
        ("header", HEADER.as_bytes()),
        ("correlation data", CORRELATION.as_bytes()),
        ("last will", WILL.as_bytes()),
    ];
    let lines: Vec<_> = key.lines().filter(|line| !line.starts_with("--")).map(str::as_bytes).collect();
    secrets.extend(lines.iter().map(|line| ("key file", *line)));
    for (name, secret) in secrets {
        for (form, bytes) in forms(secret) {
            if let Some(at) = find(&bytes, &said) {
                let around = String::from_utf8_lossy(&said[at.saturating_sub(400)..(at + 200).min(said.len())]);
                panic!("the {name} is said, as {form}: …{around}…");
            }
        }
    }
}

/// How bytes are printed: as they are, as `Debug` shows a list and an escaped text, in hexadecimal, in base64.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let list = format!("{secret:?}");
    let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        ("itself", secret.to_vec()),
        ("a list", list.trim_matches(['[', ']']).into()),
        ("an escaped text", secret.escape_ascii().to_string().into()),
        ("capital hexadecimal", hexadecimal.to_uppercase().into()),
        ("hexadecimal", hexadecimal.into()),
    ];
    // The last group depends on what stands behind it.
    let whole = secret.len() / 3 * 3;
    forms.push(("base64", base64(&secret[..whole]).into()));
    forms
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let number = three.iter().fold(0, |number: usize, byte| number << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[number >> shift & 63]))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

fn find(wanted: &[u8], said: &[u8]) -> Option<usize> {
    said.windows(wanted.len()).position(|window| window == wanted)
}

fn is_in(wanted: &[u8], said: &[u8]) -> bool {
    find(wanted, said).is_some()
}

/// The program.
pub fn goes_through_everything(database: &Path) {
    env_logger::Builder::new().filter_level(log::LevelFilter::Trace).init();
    for (form, bytes) in forms(PLANTED.as_bytes()) {
        say(format!("planted as {form}: {}", String::from_utf8_lossy(&bytes)));
    }
    let place = fs::read_to_string(database.with_file_name(BROKER)).unwrap();
    let [plain, tls, folder] = place.lines().collect::<Vec<_>>()[..] else { panic!("{place}") };
    let folder = Path::new(folder);
    sends_to_the_broker(database, plain.parse().unwrap(), tls.parse().unwrap(), folder);
    writes_settings_wrong(plain);
    is_refused(database);
    panics(&database.with_file_name("panics.db"));
    say("all of it was done");
}

/// As it would be shown in a log, in a text for people, and in a failed assertion.
fn show(what: &str, shown: &impl Debug) {
    log::info!("{what} {shown:?}");
    say(format!("{what}: {shown:#?}"));
}

fn show_error(what: &str, error: &(impl std::error::Error + 'static)) {
    say(format!("{what}: {error}"));
    show(what, error);
    let mut source = error.source();
    while let Some(cause) = source {
        say(format!("{what}, because of {cause} {cause:?}"));
        source = cause.source();
    }
}

fn show_outbox(outbox: &Outbox) {
    show("outbox", outbox);
    show("status", &outbox.status());
    show("settings", outbox.settings());
    show("stats", &outbox.stats());
    show("failed", &outbox.failed(0, 100));
    (1..=20).for_each(|row| show("stored", &outbox.message(row)));
}

fn secretive(message: Message) -> Message {
    let message = message.with_header("note", HEADER).with_correlation_data(CORRELATION);
    message.with_response_topic("weather/answers").with_key("roof")
}

fn messages() -> [Message; 3] {
    let text = secretive(Message::text(TOPIC, PAYLOAD));
    let bytes = secretive(Message::new(TOPIC, BYTES));
    let json = Message::json(TOPIC, &PAYLOAD).unwrap();
    [text, bytes, secretive(json.with_expiry(Duration::from_secs(60)))]
}

fn sends_to_the_broker(database: &Path, plain: u16, tls: u16, folder: &Path) {
    let (user_file, password_file) = (database.with_file_name("user"), database.with_file_name("password"));
    fs::write(&user_file, USER).unwrap();
    fs::write(&password_file, PASSWORD).unwrap();
    let base = MqttSettings::new("127.0.0.1").with_last_will(LastWill::text("status/roof", WILL));
    let named = base.clone().with_user(USER).with_password(PASSWORD);
    let certified = TlsSettings::new()
        .with_ca_file(folder.join("ca.pem"))
        .with_client_certificate(folder.join("client.pem"), folder.join("client.key"));
    let url = format!("mqtt://{USER}:{ENCODED_PASSWORD}@127.0.0.1:{plain}");
    let mut settings = vec![
        MqttSettings::from_url(&url).unwrap(),
        base.clone().with_port(plain).with_user_file(&user_file).with_password_file(&password_file),
    ];
    for protocol in [Protocol::V5, Protocol::V311] {
        settings.push(named.clone().with_port(plain).with_protocol(protocol));
        settings.push(named.clone().with_port(tls).with_protocol(protocol).with_tls(certified.clone()));
    }
    for settings in settings {
        show("settings", &settings);
        show("tls settings", &settings.tls);
        show("last will", &settings.last_will);
        let broker = Mqtt::new(settings).unwrap();
        show("broker", &broker);
        let outbox = open(database, broker);
        for message in messages() {
            show("message", &message);
            enqueue(&outbox, [message]);
        }
        outbox.flush(SOON).unwrap();
        show_outbox(&outbox);
        outbox.shutdown(SOON).unwrap();
    }

    for protocol in [Protocol::V5, Protocol::V311] {
        let wrong = named.clone().with_port(plain).with_protocol(protocol).with_password(WRONG_PASSWORD);
        let outbox = open(database, Mqtt::new(wrong).unwrap());
        wait_for_status(&outbox, "refused", |status| matches!(status.link, LinkState::Refused { .. }));
        show_outbox(&outbox);
        show_error("flush", &outbox.flush(Duration::ZERO).err().unwrap_or(Error::Stopped));
    }
    // The broker's own key is no authority, and a password is none either.
    for ca_file in [folder.join("server.key"), password_file] {
        let tls_settings = TlsSettings::new().with_ca_file(ca_file);
        let outbox = open(database, Mqtt::new(named.clone().with_port(tls).with_tls(tls_settings)).unwrap());
        let is_over = |link: &LinkState| matches!(link, LinkState::Refused { .. } | LinkState::Offline { .. });
        wait_for_status(&outbox, "no session", |status| is_over(&status.link));
        show_outbox(&outbox);
    }
}

fn open(database: &Path, broker: impl Broker) -> Outbox {
    let settings = Settings { max_payload: 1_000, ..quick() };
    let tell = |failed: &edge_outbox::FailedMessage| show("on_failed", failed);
    Outbox::builder(database).settings(settings).on_failed(tell).broker(broker).open().unwrap()
}

fn writes_settings_wrong(port: &str) {
    for url in [
        format!("mqtt://{USER}:{PASSWORD}@127.0.0.1:{port}"),
        format!("mqtts://{USER}:{ENCODED_PASSWORD}@127.0.0.1:{port}/path?window=0&nonsense=1#fragment"),
        format!("{USER}:{ENCODED_PASSWORD}@127.0.0.1"),
        format!("http://{USER}:{ENCODED_PASSWORD}@"),
        format!("mqtt://127.0.0.1:{PASSWORD}"),
    ] {
        show_error("URL", &Mqtt::from_url(&url).map(drop).unwrap_err());
    }
    let settings = MqttSettings::new("").with_user(format!("{USER}\0")).with_password(format!("{PASSWORD}\0"));
    let settings = settings.with_last_will(LastWill::text("#", format!("{WILL}{}", " ".repeat(65_536))));
    show("wrong settings", &settings);
    show_error("settings", &settings.check().unwrap_err());
    for json in [
        format!(r#"{{ "password": ["{PASSWORD}"] }}"#),
        format!(r#"{{ "user": {{ "name": "{USER}" }} }}"#),
        format!(r#"{{ "last_will": {{ "topic": "t", "payload": ["{WILL}"] }} }}"#),
    ] {
        show_error("JSON", &serde_json::from_str::<MqttSettings>(&json).unwrap_err());
    }
}

/// Messages that are parked, each for another reason, and errors to the caller.
fn is_refused(database: &Path) {
    let broker = InProcess::builder().record(100).build();
    broker.refuse(TOPIC, Refusal::new(Verdict::Never, "too wet"), 1).unwrap();
    let arrivals = broker.subscribe("#").unwrap();
    show("broker", &(&broker, &arrivals));
    let writer = Outbox::builder(database).settings(quick()).open().unwrap();
    enqueue(&writer, messages());
    writer
        .transaction(|tx| -> Result<(), Error> {
            let at: i64 = tx.query_row("SELECT max(id) FROM outbox", [], |row| row.get(0))?;
            let first = at - 2;
            tx.execute("INSERT INTO outbox (topic, payload) VALUES (?1, ?2)", [TOPIC, &PAYLOAD.repeat(100)])?;
            let old = "INSERT INTO outbox (topic, payload, expires_at) VALUES (?1, ?2, 1)";
            tx.execute(old, [TOPIC, PAYLOAD])?;
            for headers in [format!("[{HEADER:?}]"), format!("[[{HEADER:?}, 1]]"), format!("[[\"id\", {HEADER:?}]]")] {
                tx.execute(
                    "INSERT INTO outbox (topic, payload, headers) VALUES (?1, ?2, ?3)",
                    [TOPIC, PAYLOAD, &headers],
                )?;
            }
            // Damage asks no trigger.
            tx.execute("UPDATE outbox SET checksum = 1, payload = payload || payload WHERE id = ?1", [first + 1])?;
            Ok(tx.execute("UPDATE outbox SET checksum = 1 WHERE id = ?1", [first + 1]).map(drop)?)
        })
        .unwrap();
    let outbox = open(database, broker.clone());
    let last = arrivals.recv_timeout(SOON).unwrap();
    show("arrival", &last);
    last.acknowledge();
    wait_for_stats(&outbox, "all are parked", |stats| stats.failed == 7 && stats.pending == 0);
    show("seen", &broker.seen());
    show_outbox(&outbox);
    outbox.retry_all().unwrap();
    wait_for_stats(&outbox, "most are parked again", |stats| stats.failed >= 5 && stats.pending <= 2);
    show_outbox(&outbox);

    let long = format!("{HEADER}{}", " ".repeat(70_000));
    let enqueue = |message: &Message| outbox.transaction(|tx| outbox.enqueue(tx, message).map(drop)).unwrap_err();
    for message in [
        Message::text(TOPIC, PAYLOAD.repeat(1_000)),
        Message::text("weather/#", PAYLOAD),
        Message::text(TOPIC, PAYLOAD).with_header("note", &long),
        Message::text(TOPIC, PAYLOAD).with_header("note", format!("{HEADER}\0")),
        Message::text(TOPIC, PAYLOAD).with_header("", HEADER),
        Message::text(TOPIC, PAYLOAD).with_header("id", HEADER),
        Message::text(TOPIC, PAYLOAD).with_correlation_data(CORRELATION.repeat(4_000)),
        Message::text(TOPIC, PAYLOAD).with_expiry(Duration::ZERO),
    ] {
        show("message", &message);
        show_error("enqueue", &enqueue(&message));
    }
    let sql = outbox.connection().unwrap();
    sql.execute_batch("CREATE TRIGGER no BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'no'); END").unwrap();
    show_error("enqueue", &enqueue(&messages()[0]));
    sql.execute_batch("DROP TRIGGER no").unwrap();
    show_error("retry", &outbox.retry(-1).unwrap_err());
    show_error("discard", &outbox.discard(i64::MAX).unwrap_err());
    let map = std::collections::BTreeMap::from([(vec![PAYLOAD], HEADER)]);
    show_error("JSON", &Message::json(TOPIC, &map).unwrap_err());
    let text = database.with_file_name("text");
    fs::write(&text, PAYLOAD.repeat(1_000)).unwrap();
    show_error("open", &Outbox::builder(&text).open().map(drop).unwrap_err());
}

/// An adapter that shows what it is given, and panics then.
struct Shows;

impl Broker for Shows {
    fn connect(&mut self, link: Link) {
        show("link", &link);
        link.up(Limits::UNLIMITED);
        std::mem::forget(link);
    }

    fn send(&mut self, queue: &mut VecDeque<Delivery>) {
        show("deliveries", queue);
        panic!("this adapter panics at {queue:?}");
    }

    fn disconnect(&mut self, _: Instant) {}
}

fn panics(database: &Path) {
    let outbox = open(database, Shows);
    enqueue(&outbox, messages());
    eventually("the adapter panics", || outbox.status().failed.is_some());
    show_outbox(&outbox);
    show_error("flush", &outbox.flush(SOON).unwrap_err());
}
