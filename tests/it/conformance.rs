//! What every adapter promises, shown once for each: the same tests against in-process, MQTT and Kafka.
//!
//! A subject (`conformance/subject.rs`) is an adapter with its other side. What a subject cannot show is said on the
//! terminal as NOT TESTED, with the reason. To add one: implement `Subject`, and `conformance!(MySubject::new)`.

mod in_process;
#[cfg(feature = "mqtt")]
mod mqtt;
mod subject;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::Verdict;
use edge_outbox::{Backoff, Error, LinkState, Message, Ordering, Outbox, Settings, Status};
use tempfile::TempDir;

use self::subject::{Fault, Received, Subject, can, inflicted};

/// Every topic of the suite stands below this one.
pub const ROOT: &str = "conformance";
const PLAIN: &str = "conformance/plain";
const TRICKY: &str = "conformance/tricky";

/// Far beyond what any of this takes, the slowest machine included.
const SOON: Duration = Duration::from_secs(60);

/// One `#[test]` per promise, for the subject that the expression makes.
macro_rules! conformance {
    ($make:expr) => {
        $crate::conformance::conformance!(
            $make,
            messages_arrive_in_order_with_names_of_their_own,
            an_outage_costs_nothing_and_what_was_enqueued_meanwhile_arrives,
            a_thousand_messages_pass_three_breaks_of_the_link_and_none_is_missing,
            a_message_refused_for_good_is_parked_with_its_reason_and_the_rest_goes_on,
            a_message_refused_for_now_comes_again_and_its_key_waits_behind_it,
            a_message_refused_in_company_is_sent_alone,
            a_closed_topic_waits_and_the_others_go_on,
            a_refused_session_is_told_apart_from_an_outage_and_costs_nothing,
            a_message_whose_acknowledgement_is_lost_comes_again,
            a_message_whose_acknowledgement_is_late_does_not_come_again,
            acknowledgements_that_miss_the_timeout_lose_nothing,
            a_message_that_was_let_go_comes_again,
            a_message_that_ends_every_session_is_parked_and_the_rest_arrives,
            a_patient_shutdown_settles_what_is_in_flight,
            an_impatient_shutdown_loses_nothing,
        );
    };
    ($make:expr, $($promise:ident),+ $(,)?) => {
        $(
            #[test]
            fn $promise() {
                let subject = $make();
                $crate::conformance::$promise(&subject);
            }
        )+
    };
}
use conformance;

fn messages_arrive_in_order_with_names_of_their_own<S: Subject>(subject: &S) {
    let house = House::new(subject);
    house.enqueue(numbered(PLAIN, "a", 0..50));
    let received = subject.inbox().wait_until("50 messages", SOON, |received| distinct(received) == 50);
    house.outbox.flush(SOON).unwrap();
    assert_eq!(firsts(&received), numbers(0..50));
    assert!(received.iter().all(|received| received.topic == PLAIN));
    if can::<S>("names", subject.carries_ids()) {
        let rows: BTreeSet<i64> = received.iter().map(|received| received.id.unwrap().row()).collect();
        assert_eq!(rows, (1..=50).collect());
    }
}

fn an_outage_costs_nothing_and_what_was_enqueued_meanwhile_arrives<S: Subject>(subject: &S) {
    subject.break_link();
    let house = House::new(subject);
    house.enqueue(numbered(PLAIN, "a", 0..20));
    house.wait_for("the outage in the status", |status| matches!(status.link, LinkState::Offline { .. }));
    assert_eq!(subject.inbox().all(), []);
    subject.heal_link();
    let received = subject.inbox().wait_until("20 messages", SOON, |received| distinct(received) == 20);
    assert_eq!(firsts(&received), numbers(0..20));
    house.wait_for("the link in the status", |status| matches!(status.link, LinkState::Up));
    house.settles_without_a_failure();
}

fn a_thousand_messages_pass_three_breaks_of_the_link_and_none_is_missing<S: Subject>(subject: &S) {
    let house = House::new(subject);
    let inbox = subject.inbox();
    let keys: Vec<String> = (0..10).map(|key| format!("key{key}")).collect();
    for hundred in 0..10 {
        for key in &keys {
            house.enqueue(numbered(PLAIN, key, hundred * 10..hundred * 10 + 10));
        }
        // While messages are on their way, most likely.
        if matches!(hundred, 2 | 5 | 8) {
            let some = hundred * 100;
            inbox.wait_until("messages before the break", SOON, |received| distinct(received) >= some);
            subject.break_link();
            house.wait_for("the break in the status", |status| !matches!(status.link, LinkState::Up));
            subject.heal_link();
        }
    }
    let received = inbox.wait_until("1,000 messages", SOON, |received| distinct(received) == 1_000);
    house.settles_without_a_failure();
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let firsts = firsts(&received);
    for payload in &firsts {
        let (key, number) = payload.split_once(' ').unwrap();
        by_key.entry(key).or_default().push(number);
    }
    let in_order = numbers_alone(0..100);
    for key in &keys {
        assert_eq!(by_key[key.as_str()], in_order, "the order of {key}");
    }
}

fn a_message_refused_for_good_is_parked_with_its_reason_and_the_rest_goes_on<S: Subject>(subject: &S) {
    let refusal = Fault::Refuse { topic: TRICKY, verdict: Verdict::Never, times: 1 };
    if !inflicted(subject, "refusals for good", &refusal) {
        return;
    }
    let house = House::new(subject);
    house.enqueue(numbered(PLAIN, "a", 0..1));
    house.enqueue(numbered(TRICKY, "a", 1..2));
    house.enqueue(numbered(PLAIN, "a", 2..3));
    house.outbox.flush(SOON).unwrap();
    let received = subject.inbox().wait_until("the other two", SOON, |received| distinct(received) == 2);
    assert_eq!(firsts(&received), ["a 0", "a 2"]);
    let failed = house.outbox.failed(0, 10).unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].id.row(), failed[0].topic.as_str()), (2, TRICKY));
    assert!(!failed[0].reason.is_empty());
}

fn a_message_refused_for_now_comes_again_and_its_key_waits_behind_it<S: Subject>(subject: &S) {
    let refusal = Fault::Refuse { topic: TRICKY, verdict: Verdict::Later, times: 2 };
    if !inflicted(subject, "refusals for now", &refusal) {
        return;
    }
    let house = House::with(subject, Settings { ordering: Ordering::Strict, ..quick() });
    house.enqueue(numbered(TRICKY, "a", 0..1));
    house.enqueue(numbered(PLAIN, "a", 1..5));
    house.enqueue(numbered(PLAIN, "b", 0..1));
    let received = subject.inbox().wait_until("6 messages", SOON, |received| distinct(received) == 6);
    house.settles_without_a_failure();
    let of_a: Vec<String> = firsts(&received).into_iter().filter(|payload| payload.starts_with("a ")).collect();
    assert_eq!(of_a, numbers(0..5));
}

fn a_message_refused_in_company_is_sent_alone<S: Subject>(subject: &S) {
    let refusal = Fault::Refuse { topic: TRICKY, verdict: Verdict::Alone, times: 1 };
    if !inflicted(subject, "refusals of a group", &refusal) {
        return;
    }
    let house = House::new(subject);
    house.enqueue(numbered(PLAIN, "a", 0..10));
    house.enqueue(numbered(TRICKY, "b", 0..1));
    house.enqueue(numbered(PLAIN, "c", 0..10));
    subject.inbox().wait_until("21 messages", SOON, |received| distinct(received) == 21);
    house.settles_without_a_failure();
}

fn a_closed_topic_waits_and_the_others_go_on<S: Subject>(subject: &S) {
    let refusal = Fault::Refuse { topic: TRICKY, verdict: Verdict::Topic, times: usize::MAX };
    if !inflicted(subject, "closed topics", &refusal) {
        return;
    }
    let house = House::new(subject);
    house.enqueue(numbered(TRICKY, "a", 0..5));
    house.enqueue(numbered(PLAIN, "b", 0..5));
    subject.inbox().wait_until("the open topic", SOON, |received| distinct(received) == 5);
    house.wait_for("the closed topic in the status", |status| {
        status.closed_topics.iter().any(|closed| closed.topic == TRICKY && !closed.reason.is_empty())
    });
    subject.mend();
    let received = subject.inbox().wait_until("both topics", SOON, |received| distinct(received) == 10);
    let of_a: Vec<String> = firsts(&received).into_iter().filter(|payload| payload.starts_with("a ")).collect();
    assert_eq!(of_a, numbers(0..5));
    house.wait_for("no closed topic in the status", |status| status.closed_topics.is_empty());
    house.settles_without_a_failure();
}

fn a_refused_session_is_told_apart_from_an_outage_and_costs_nothing<S: Subject>(subject: &S) {
    if !inflicted(subject, "refused sessions", &Fault::RefuseSessions) {
        return;
    }
    let house = House::new(subject);
    house.enqueue(numbered(PLAIN, "a", 0..5));
    house.wait_for("the refusal in the status", |status| matches!(status.link, LinkState::Refused { .. }));
    subject.mend();
    let received = subject.inbox().wait_until("5 messages", SOON, |received| distinct(received) == 5);
    assert_eq!(firsts(&received), numbers(0..5));
    house.settles_without_a_failure();
}

fn a_message_whose_acknowledgement_is_lost_comes_again<S: Subject>(subject: &S) {
    if !inflicted(subject, "lost acknowledgements", &Fault::LoseAcknowledgements(1)) {
        return;
    }
    let house = House::new(subject);
    house.enqueue(numbered(PLAIN, "a", 0..5));
    let received = subject.inbox().wait_until("a repetition", SOON, |received| received.len() > 5);
    let repeated = &received[5];
    assert!(received[..5].contains(repeated), "a repetition has the name of the first: {received:?}");
    house.settles_without_a_failure();
    assert_eq!(distinct(&subject.inbox().all()), 5);
}

fn a_message_whose_acknowledgement_is_late_does_not_come_again<S: Subject>(subject: &S) {
    let late = Fault::DelayAcknowledgements(Duration::from_millis(300));
    if !inflicted(subject, "late acknowledgements", &late) {
        return;
    }
    // Patient beyond doubt: here a repetition would be the adapter's fault.
    let house = House::with(subject, Settings { ack_timeout: SOON, ..quick() });
    house.enqueue(numbered(PLAIN, "a", 0..20));
    house.settles_without_a_failure();
    assert_eq!(payloads(&subject.inbox().all()), numbers(0..20));
}

fn acknowledgements_that_miss_the_timeout_lose_nothing<S: Subject>(subject: &S) {
    let late = Fault::DelayAcknowledgements(SOON);
    if !inflicted(subject, "acknowledgements after the timeout", &late) {
        return;
    }
    let house = House::new(subject);
    house.enqueue(numbered(PLAIN, "a", 0..5));
    let again = |received: &[Received]| distinct(received) == 5 && received.len() >= 10;
    subject.inbox().wait_until("all of it again", SOON, again);
    subject.mend();
    house.settles_without_a_failure();
    assert_eq!(distinct(&subject.inbox().all()), 5);
}

fn a_message_that_was_let_go_comes_again<S: Subject>(subject: &S) {
    if !inflicted(subject, "dropped receipts", &Fault::LetGo(3)) {
        return;
    }
    let house = House::new(subject);
    house.enqueue(numbered(PLAIN, "a", 0..10));
    subject.inbox().wait_until("10 messages", SOON, |received| distinct(received) == 10);
    house.settles_without_a_failure();
}

fn a_message_that_ends_every_session_is_parked_and_the_rest_arrives<S: Subject>(subject: &S) {
    if !inflicted(subject, "hanging up on a message", &Fault::HangUp { topic: TRICKY }) {
        return;
    }
    let house = House::new(subject);
    house.enqueue(numbered(PLAIN, "a", 0..5));
    house.enqueue(numbered(TRICKY, "b", 0..1));
    house.enqueue(numbered(PLAIN, "c", 0..5));
    subject.inbox().wait_until("the rest", SOON, |received| distinct(received) == 10);
    house.outbox.flush(SOON).unwrap();
    let failed = house.outbox.failed(0, 10).unwrap();
    assert_eq!(failed.iter().map(|failed| failed.id.row()).collect::<Vec<_>>(), [6]);
}

fn a_patient_shutdown_settles_what_is_in_flight<S: Subject>(subject: &S) {
    let late = Fault::DelayAcknowledgements(Duration::from_millis(300));
    if !inflicted(subject, "shutdown with messages in flight", &late) {
        return;
    }
    let settings = || Settings { ack_timeout: SOON, ..quick() };
    let house = House::with(subject, settings());
    house.enqueue(numbered(PLAIN, "a", 0..20));
    subject.inbox().wait_until("20 messages", SOON, |received| distinct(received) == 20);
    let (settled, dir) = house.shutdown(SOON);
    settled.unwrap();

    let house = House::again(subject, settings(), dir);
    house.settles_without_a_failure();
    assert_eq!(payloads(&subject.inbox().all()), numbers(0..20), "settled ones are not sent again");
}

fn an_impatient_shutdown_loses_nothing<S: Subject>(subject: &S) {
    let house = House::new(subject);
    house.enqueue(numbered(PLAIN, "a", 0..300));
    // It may or may not have been in time: what matters is what a later start makes of it.
    let (_, dir) = house.shutdown(Duration::ZERO);

    let house = House::again(subject, quick(), dir);
    let received = subject.inbox().wait_until("300 messages", SOON, |received| distinct(received) == 300);
    assert_eq!(firsts(&received), numbers(0..300));
    house.settles_without_a_failure();
}

/// A program that uses an outbox.
struct House {
    outbox: Outbox,
    dir: TempDir,
}

impl House {
    fn new<S: Subject>(subject: &S) -> Self {
        Self::with(subject, quick())
    }

    fn with<S: Subject>(subject: &S, settings: Settings) -> Self {
        Self::again(subject, settings, tempfile::tempdir().unwrap())
    }

    /// The program started again, on the database that is there.
    fn again<S: Subject>(subject: &S, settings: Settings, dir: TempDir) -> Self {
        let path: &Path = &dir.path().join("house.db");
        let outbox = Outbox::builder(path).settings(settings).broker(subject.broker()).open().unwrap();
        House { outbox, dir }
    }

    fn enqueue(&self, messages: impl Iterator<Item = Message>) {
        self.outbox
            .transaction(|tx| -> Result<(), Error> {
                for message in messages {
                    self.outbox.enqueue(tx, &message)?;
                }
                Ok(())
            })
            .unwrap();
    }

    fn shutdown(self, patience: Duration) -> (Result<(), Error>, TempDir) {
        let House { outbox, dir } = self;
        (outbox.shutdown(patience), dir)
    }

    #[track_caller]
    fn wait_for(&self, what: &str, holds: impl Fn(&Status) -> bool) {
        let until = Instant::now() + SOON;
        loop {
            let status = self.outbox.status();
            if holds(&status) {
                return;
            }
            assert!(Instant::now() < until, "not within {SOON:?}: {what}; it is {status:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[track_caller]
    fn settles_without_a_failure(&self) {
        self.outbox.flush(SOON).unwrap();
        let failed = self.outbox.failed(0, 10).unwrap();
        assert!(failed.is_empty(), "{failed:?}");
    }
}

/// Settings that make waits short, so that no test has to sit through a default.
fn quick() -> Settings {
    let ms = Duration::from_millis;
    Settings {
        reconnect: Backoff { first: ms(5), longest: ms(50) },
        retry: Backoff { first: ms(5), longest: ms(50) },
        ack_timeout: Duration::from_secs(1),
        settle_after: ms(10),
        ..Settings::default()
    }
}

/// Messages of `key` that say the key and a number.
fn numbered(topic: &str, key: &str, numbers: std::ops::Range<usize>) -> impl Iterator<Item = Message> {
    numbers.map(move |number| Message::text(topic, format!("{key} {number}")).with_key(key))
}

/// What messages of the key `a` with these numbers say.
fn numbers(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("a {number}")).collect()
}

fn numbers_alone(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

fn payloads(received: &[Received]) -> Vec<String> {
    received.iter().map(|received| received.payload.clone()).collect()
}

/// What was received, each message where it came first.
fn firsts(received: &[Received]) -> Vec<String> {
    let mut known = BTreeSet::new();
    let firsts = received.iter().filter(|received| known.insert(received.name()));
    firsts.map(|received| received.payload.clone()).collect()
}

fn distinct(received: &[Received]) -> usize {
    received.iter().map(Received::name).collect::<BTreeSet<_>>().len()
}
