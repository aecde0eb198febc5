//! The suite against a real mosquitto, behind a proxy that is the network between.
//!
//! What mosquitto does by itself it does here: access lists and passwords are its own, changed while it runs. What it
//! cannot be told to do, refusing a message for good for instance, the proxy does in its place. The subscriber is
//! connected past the proxy and has the last word about what arrived.
//!
//! Once for MQTT 5 and once for 3.1.1, whose brokers take a message or hang up: what they do not take they cannot say.

use std::fs;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use edge_outbox::broker::{Broker, Mqtt, MqttSettings, Protocol, Verdict};

use super::subject::{Cannot, Fault, Inbox, Received, Subject};
use super::{ROOT, SOON};
use crate::mosquitto::{self, Mosquitto};
use crate::proxy::Proxy;

/// The password `spring`, as `mosquitto_passwd` writes it.
const PASSWORDS: &str = "station:$7$101$ZvOa7oJPPw6Dgdar\
    $HLwfbePvkHkptmOALdP4yktS1ZEqr+AUnd9goxvPi8+9LIj/4KPYnGvO9SI4onOuybG3I04w8TWfDeWEhy/cfA==\n";
/// Anonymous is the subscriber.
const OPEN: &str = "topic readwrite #\nuser station\ntopic write #\n";
/// How often the subscriber's thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Which MQTT the adapter speaks.
pub trait Version {
    const NAME: &str;
    const PROTOCOL: Protocol;
}

pub struct V5;

impl Version for V5 {
    const NAME: &str = "MQTT 5 and mosquitto";
    const PROTOCOL: Protocol = Protocol::V5;
}

pub struct V311;

impl Version for V311 {
    const NAME: &str = "MQTT 3.1.1 and mosquitto";
    const PROTOCOL: Protocol = Protocol::V311;
}

pub struct MosquittoSubject<V> {
    version: PhantomData<V>,
    // Declared, and so dropped, in the order in which they lean on each other.
    consumer: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    inbox: Arc<Inbox>,
    proxy: Proxy,
    broker: Mosquitto,
}

impl<V: Version> MosquittoSubject<V> {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("passwords"), PASSWORDS).unwrap();
        fs::write(folder.path().join("acl"), OPEN).unwrap();
        let lines = ["password_file passwords", "acl_file acl"];
        let broker = Mosquitto::start_in(folder, &lines);
        let proxy = Proxy::to(broker.port());
        let subscriber = broker.subscribe(&format!("{ROOT}/#"));
        let (inbox, over) = (Arc::new(Inbox::default()), Arc::new(AtomicBool::new(false)));
        let (to, until) = (Arc::clone(&inbox), Arc::clone(&over));
        let consumer = thread::spawn(move || {
            while !until.load(Ordering::SeqCst) {
                if let Some(received) = subscriber.next(LOOK) {
                    to.put(understood::<V>(&received));
                }
            }
        });
        MosquittoSubject { version: PhantomData, consumer: Some(consumer), over, inbox, proxy, broker }
    }

    /// Changes one of the broker's files while it runs.
    fn change(&self, file: &str, content: &str) {
        let path = self.broker.folder().join(file);
        if fs::read_to_string(&path).unwrap() == content {
            return;
        }
        fs::write(path, content).unwrap();
        let reloads = || self.broker.log().matches("Reloading config.").count();
        let before = reloads();
        self.broker.signal("HUP");
        let until = Instant::now() + SOON;
        // It speaks before it reads the files, and reads them before it hears of the next packet.
        while reloads() == before {
            assert!(Instant::now() < until, "mosquitto does not reload:\n{}", self.broker.log());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl<V> Drop for MosquittoSubject<V> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let ended = self.consumer.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().expect("the consumer understood what it got");
        }
    }
}

fn understood<V: Version>(received: &mosquitto::Received) -> Received {
    let id = received.property("id").map(|id| id.parse().unwrap());
    assert_eq!(id.is_some(), V::PROTOCOL == Protocol::V5, "the name of a message: {received:?}");
    Received { topic: received.topic.clone(), payload: received.text().to_owned(), id }
}

impl<V: Version> Subject for MosquittoSubject<V> {
    const NAME: &str = V::NAME;

    fn broker(&self) -> Box<dyn Broker> {
        let url = format!("mqtt://station:spring@127.0.0.1:{}?keep_alive=5s", self.proxy.port());
        Box::new(Mqtt::new(MqttSettings::from_url(&url).unwrap().with_protocol(V::PROTOCOL)).unwrap())
    }

    fn break_link(&self) {
        self.proxy.cut();
    }

    fn heal_link(&self) {
        self.proxy.heal();
    }

    fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    fn inflict(&self, fault: &Fault) -> Result<(), Cannot> {
        match fault {
            Fault::Refuse { .. } if V::PROTOCOL == Protocol::V311 => {
                return Err(Cannot("a broker of MQTT 3.1.1 has no words to refuse a message with"));
            }
            Fault::Refuse { verdict: Verdict::Topic, topic, .. } => {
                self.change("acl", &format!("{OPEN}topic deny {topic}\n"));
            }
            // Topic name invalid, and unspecified error: mosquitto never says either.
            Fault::Refuse { verdict: Verdict::Never, topic, times } => self.proxy.refuse(topic, 0x90, *times),
            Fault::Refuse { verdict: Verdict::Later, topic, times } => self.proxy.refuse(topic, 0x80, *times),
            Fault::Refuse { .. } => return Err(Cannot("MQTT answers each message by itself, never a group")),
            Fault::RefuseSessions => self.change("passwords", ""),
            Fault::LoseAcknowledgements(count) => self.proxy.lose_acks(*count),
            Fault::DelayAcknowledgements(by) => self.proxy.delay_acks(*by),
            Fault::LetGo(count) => self.proxy.lose_publishes(*count),
            Fault::HangUp { topic } => self.proxy.hang_up_on(topic),
        }
        Ok(())
    }

    fn mend(&self) {
        self.proxy.behave();
        self.change("acl", OPEN);
        self.change("passwords", PASSWORDS);
    }

    fn carries_ids(&self) -> Result<(), Cannot> {
        match V::PROTOCOL {
            Protocol::V5 => Ok(()),
            Protocol::V311 => Err(Cannot("MQTT 3.1.1 carries topic and payload, and nothing to put a name into")),
        }
    }
}

mod v5 {
    crate::conformance::conformance!(super::MosquittoSubject::<super::V5>::new);
}

mod v311 {
    crate::conformance::conformance!(super::MosquittoSubject::<super::V311>::new);
}
