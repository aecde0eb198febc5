use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::thread;

use crossbeam_channel::Receiver;

use super::*;
use crate::broker::{Down, Receipt, Verdict};
use crate::forwarder::{Event, Mailbox, Outcome, Ticket};

const SOON: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_secs(3600);

/// Stands where the forwarder does.
struct Forwarder {
    broker: InProcess,
    mailbox: Arc<Mailbox>,
    woken: Receiver<()>,
    sessions: u64,
    rows: i64,
    /// What the broker had no room for.
    left: Vec<Delivery>,
}

impl Forwarder {
    /// Connected to `broker` as the outbox would be, with what it said to that still to be heard.
    fn of(broker: &InProcess) -> Self {
        let (mailbox, woken) = Mailbox::new();
        Forwarder { broker: broker.clone(), mailbox, woken, sessions: 0, rows: 0, left: Vec::new() }
    }

    fn connected(broker: &InProcess) -> Self {
        let mut forwarder = Self::of(broker);
        forwarder.connect();
        assert_eq!(forwarder.said(), ["up"]);
        forwarder
    }

    fn connect(&mut self) {
        self.sessions += 1;
        self.broker.connect(Link::new(self.sessions, Arc::clone(&self.mailbox)));
    }

    fn delivery(&mut self, topic: &str) -> Delivery {
        self.rows += 1;
        let receipt = Receipt::new(Ticket { row: self.rows, sending: 1 }, Arc::clone(&self.mailbox));
        Delivery::new(MessageId::new(self.rows, 7), false, Message::text(topic, self.rows.to_string()), receipt)
    }

    /// Sends one message to each topic; says how many the broker took.
    fn send(&mut self, topics: &[&str]) -> usize {
        let mut queue: VecDeque<Delivery> = topics.iter().map(|topic| self.delivery(topic)).collect();
        self.broker.send(&mut queue);
        let left = queue.len();
        self.left.extend(queue);
        topics.len() - left
    }

    /// What was said since it was last asked, in words, without waiting.
    fn said(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        self.mailbox.take(&mut events);
        events.iter().map(in_words).collect()
    }

    /// The same, after waiting for the first word.
    fn hear(&mut self) -> Vec<String> {
        loop {
            let said = self.said();
            if !said.is_empty() {
                return said;
            }
            self.woken.recv_timeout(SOON).expect("a word from the broker");
        }
    }
}

fn in_words(event: &Event) -> String {
    match event {
        Event::Settled(ticket, Outcome::Acknowledged) => format!("{} acknowledged", ticket.row),
        Event::Settled(ticket, Outcome::NotDelivered) => format!("{} not delivered", ticket.row),
        Event::Settled(ticket, Outcome::Refused(refusal)) => format!("{} refused: {refusal}", ticket.row),
        Event::Up(..) => "up".to_owned(),
        Event::Alive(_) => "alive".to_owned(),
        Event::Down(_, Down::Unreachable(why)) => format!("unreachable: {why}"),
        Event::Down(_, Down::Refused(why)) => format!("refused: {why}"),
        Event::TryNow => "try now".to_owned(),
        other => format!("{other:?}"),
    }
}

fn topic(arrival: &Arrival) -> String {
    arrival.message.topic.clone()
}

#[test]
fn a_subscriber_gets_its_topics_in_order_and_its_word_settles_them() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("a/+").unwrap();
    let _other = broker.subscribe("b").unwrap();
    assert_eq!(forwarder.send(&["a/1", "b", "a/2"]), 3);

    let first = subscriber.recv_timeout(SOON).unwrap();
    assert_eq!((topic(&first), first.id.row(), first.possible_duplicate), ("a/1".to_owned(), 1, false));
    let second = subscriber.try_recv().unwrap();
    assert_eq!((topic(&second), subscriber.try_recv().unwrap_err()), ("a/2".to_owned(), TryRecvError::Empty));
    assert!(forwarder.said().is_empty());
    second.acknowledge();
    first.acknowledge();
    assert_eq!(forwarder.said(), ["3 acknowledged", "1 acknowledged"]);
    assert_eq!(broker.counts().in_flight, 1);
}

#[test]
fn a_message_is_sent_when_its_last_subscriber_has_acknowledged_it() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let (all, some) = (broker.subscribe("#").unwrap(), broker.subscribe("a").unwrap());
    forwarder.send(&["a"]);
    all.try_recv().unwrap().acknowledge();
    assert!(forwarder.said().is_empty());
    some.try_recv().unwrap().acknowledge();
    assert_eq!(forwarder.said(), ["1 acknowledged"]);
}

#[test]
fn an_arrival_dropped_by_one_subscriber_is_taken_back_from_all() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let (careless, waiting, quick) =
        (broker.subscribe("a").unwrap(), broker.subscribe("a").unwrap(), broker.subscribe("a").unwrap());
    forwarder.send(&["a"]);
    let late = quick.try_recv().unwrap();
    drop(careless.try_recv().unwrap());
    assert_eq!(forwarder.said(), ["1 not delivered"]);
    assert_eq!(waiting.try_recv().unwrap_err(), TryRecvError::Empty);
    late.acknowledge();
    assert!(forwarder.said().is_empty());
    assert_eq!(broker.counts().in_flight, 0);
}

#[test]
fn what_waits_for_a_subscriber_that_goes_is_not_delivered() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("a").unwrap();
    forwarder.send(&["a", "a"]);
    let held = subscriber.try_recv().unwrap();
    drop(subscriber);
    assert_eq!(forwarder.said(), ["2 not delivered"]);
    held.acknowledge();
    assert_eq!(forwarder.said(), ["1 acknowledged"]);
}

#[test]
fn a_subscriber_may_refuse_for_all() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let (one, other) = (broker.subscribe("a").unwrap(), broker.subscribe("a").unwrap());
    forwarder.send(&["a"]);
    one.try_recv().unwrap().reject(Refusal::new(Verdict::Never, "no such sensor"));
    assert_eq!(forwarder.said(), ["1 refused: no such sensor"]);
    assert_eq!(other.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[test]
fn a_topic_without_a_subscriber_is_closed_until_one_comes_and_others_go_on() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let a = broker.subscribe("a").unwrap();
    assert_eq!(forwarder.send(&["b", "a"]), 2);
    a.try_recv().unwrap().acknowledge();
    assert_eq!(forwarder.said(), [r#"1 refused: nobody subscribes to "b" yet"#, "2 acknowledged"]);

    // The forwarder has given the session up meanwhile: it is woken all the same, and once.
    forwarder.broker.disconnect(Instant::now());
    assert_eq!(forwarder.said(), ["unreachable: the adapter fell silent"]);
    let b = broker.subscribe("b").unwrap();
    let _again = broker.subscribe("c").unwrap();
    assert_eq!(forwarder.said(), ["try now"]);
    forwarder.connect();
    forwarder.send(&["b"]);
    b.try_recv().unwrap().acknowledge();
    assert_eq!(forwarder.said(), ["up", "3 acknowledged"]);
}

#[test]
fn messages_without_a_subscriber_are_acknowledged_if_so_set() {
    let broker = InProcess::builder().unsubscribed(Unsubscribed::Acknowledge).build();
    let mut forwarder = Forwarder::connected(&broker);
    forwarder.send(&["a"]);
    assert_eq!(forwarder.said(), ["1 acknowledged"]);
}

#[test]
fn no_more_is_taken_than_was_announced_and_a_large_message_goes_alone() {
    let broker = InProcess::builder().limits(Limits { window: 2, bytes: 100 }).build();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("#").unwrap();
    let large = "x".repeat(200);
    assert_eq!(forwarder.send(&["a", "a", "a"]), 2);
    assert_eq!(forwarder.send(&["a"]), 0);
    subscriber.try_iter().for_each(Arrival::acknowledge);
    assert_eq!(forwarder.send(&[&large, "a"]), 1);
    subscriber.try_iter().for_each(Arrival::acknowledge);
    assert_eq!(forwarder.send(&["a", &large]), 1);
}

#[test]
fn offline_breaks_the_session_and_refuses_others_until_online() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("#").unwrap();
    forwarder.send(&["a", "a"]);
    let late = subscriber.try_recv().unwrap();
    broker.go_offline();
    let offline = "unreachable: the in-process broker went offline";
    let silent = "unreachable: the adapter fell silent";
    // The end comes before what it took with it: so the forwarder knows what was in flight.
    let mut said = forwarder.said();
    assert_eq!(said.remove(0), offline);
    said.retain(|word| word != silent);
    assert_eq!(said, ["1 not delivered", "2 not delivered"]);

    // What the session left behind is nobody's any more.
    assert_eq!(subscriber.try_recv().unwrap_err(), TryRecvError::Empty);
    late.acknowledge();
    assert!(forwarder.said().is_empty());
    assert_eq!(forwarder.send(&["a"]), 0);

    forwarder.connect();
    assert_eq!(forwarder.said()[0], "unreachable: the in-process broker was told to be offline");
    broker.go_online();
    forwarder.connect();
    assert_eq!(forwarder.said(), ["up"]);
    let counts = broker.counts();
    assert_eq!((counts.connects, counts.sessions, counts.in_flight), (3, 2, 0));
}

#[test]
fn sessions_can_be_refused_and_broken() {
    let broker = InProcess::new();
    broker.refuse_sessions("bad credentials");
    let mut forwarder = Forwarder::of(&broker);
    forwarder.connect();
    assert_eq!(forwarder.said()[0], "refused: bad credentials");
    broker.accept_sessions();
    forwarder.connect();
    assert_eq!(forwarder.said(), ["up"]);
    broker.break_sessions();
    assert_eq!(forwarder.said()[0], "unreachable: the in-process broker broke the session");
}

#[test]
fn closed_topics_and_counted_refusals_concern_their_topics_alone() {
    let broker = InProcess::builder().record(2).build();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("#").unwrap();
    broker.close_topic("closed/#", "not authorised").unwrap();
    broker.refuse("busy", Refusal::new(Verdict::Later, "not now"), 1).unwrap();
    forwarder.send(&["closed/a", "busy", "busy", "open"]);
    assert_eq!(forwarder.said(), ["1 refused: not authorised", "2 refused: not now"]);
    assert_eq!(subscriber.try_iter().map(|arrival| arrival.id.row()).collect::<Vec<_>>(), [3, 4]);
    broker.open_topic("closed/#").unwrap();
    forwarder.said();
    forwarder.send(&["closed/a"]);
    assert!(forwarder.said().is_empty());

    // Seen is all that came, of that the latest.
    assert_eq!(broker.seen().iter().map(|seen| seen.id.row()).collect::<Vec<_>>(), [4, 5]);
    assert_eq!((broker.counts().received, broker.counts().refused), (5, 2));
    assert!(broker.refuse("a#", Refusal::new(Verdict::Later, ""), 1).is_err());
}

#[test]
fn a_lost_answer_never_comes_and_the_message_stays_in_flight() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("#").unwrap();
    broker.lose_acknowledgements(1);
    forwarder.send(&["a", "a"]);
    subscriber.try_iter().for_each(Arrival::acknowledge);
    assert_eq!(forwarder.said(), ["2 acknowledged"]);
    assert_eq!((broker.counts().acknowledged, broker.counts().in_flight), (1, 1));
    forwarder.broker.disconnect(Instant::now());
    assert_eq!(forwarder.said(), ["1 not delivered", "unreachable: the adapter fell silent"]);
}

#[test]
fn a_delayed_answer_comes_by_itself() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("#").unwrap();
    broker.delay_acknowledgements(Duration::from_millis(20));
    let begun = Instant::now();
    forwarder.send(&["a"]);
    subscriber.try_recv().unwrap().acknowledge();
    assert_eq!(forwarder.hear(), ["1 acknowledged"]);
    assert!(begun.elapsed() >= Duration::from_millis(20));
    assert!(broker.wait_until(SOON, |counts| counts.acknowledged == 1));
}

#[test]
fn a_poisonous_message_ends_the_session_with_what_was_in_flight() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("#").unwrap();
    broker.hang_up_on("poison").unwrap();
    assert_eq!(forwarder.send(&["a", "poison", "a"]), 2);
    let said = forwarder.said();
    assert_eq!(said[0], "unreachable: the in-process broker hung up");
    assert_eq!(subscriber.try_recv().unwrap_err(), TryRecvError::Empty);
    broker.behave();
    forwarder.connect();
    forwarder.said();
    assert_eq!(forwarder.send(&["poison"]), 1);
    assert!(subscriber.try_recv().is_ok());
}

#[test]
fn a_late_hang_up_follows_the_acknowledgement_of_younger_messages() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("#").unwrap();
    broker.hang_up_late("poison", 2).unwrap();
    forwarder.send(&["a", "poison", "a", "a", "a"]);
    let arrivals: Vec<Arrival> = subscriber.try_iter().collect();
    assert_eq!(arrivals.iter().map(|arrival| arrival.id.row()).collect::<Vec<_>>(), [1, 3, 4, 5]);
    arrivals.into_iter().for_each(Arrival::acknowledge);
    let said = forwarder.said();
    assert_eq!(
        said[..4],
        ["1 acknowledged", "3 acknowledged", "4 acknowledged", "unreachable: the in-process broker hung up"]
    );
    assert!(said.contains(&"2 not delivered".to_owned()) && said.contains(&"5 not delivered".to_owned()));
}

#[test]
fn a_polite_end_waits_for_answers_and_takes_nothing_new() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("#").unwrap();
    forwarder.send(&["a"]);
    forwarder.broker.disconnect(Instant::now() + NEVER);
    assert_eq!(forwarder.send(&["a"]), 0);
    assert!(forwarder.said().is_empty());
    subscriber.try_recv().unwrap().acknowledge();
    assert_eq!(forwarder.said(), ["1 acknowledged", "unreachable: the adapter fell silent"]);
}

#[test]
fn a_polite_end_is_an_end_even_if_nobody_answers() {
    let broker = InProcess::new();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("#").unwrap();
    forwarder.send(&["a"]);
    let _unanswered = subscriber.try_recv().unwrap();
    forwarder.broker.disconnect(Instant::now() + Duration::from_millis(20));
    assert!(broker.wait_until(SOON, |counts| counts.in_flight == 0));
    assert!(forwarder.hear().contains(&"1 not delivered".to_owned()));
}

#[test]
fn each_handle_has_a_session_of_its_own() {
    let broker = InProcess::new();
    let subscriber = broker.subscribe("#").unwrap();
    let (mut one, mut other) = (Forwarder::connected(&broker), Forwarder::connected(&broker));
    one.send(&["one"]);
    other.send(&["other"]);
    one.broker.disconnect(Instant::now());
    assert_eq!(topic(&subscriber.try_recv().unwrap()), "other");
    other.connect();
    assert!(other.said().contains(&"up".to_owned()));
    drop(one);
    other.send(&["other"]);
    subscriber.try_recv().unwrap().acknowledge();
    assert_eq!(other.said(), ["2 acknowledged"]);
}

#[test]
fn subscribers_hear_of_the_end_of_the_last_handle_and_the_thread_ends() {
    let broker = InProcess::new();
    let subscriber = broker.subscribe("#").unwrap();
    let mut forwarder = Forwarder::connected(&broker);
    broker.delay_acknowledgements(NEVER);
    forwarder.send(&["a"]);
    subscriber.try_recv().unwrap().acknowledge();
    let shared = Arc::downgrade(&broker.shared);

    let waiting = thread::spawn(move || subscriber.iter().count());
    drop(broker);
    drop(forwarder);
    assert_eq!(waiting.join().unwrap(), 0);
    // Nothing tells of a thread's last breath; its hold on the broker does.
    let deadline = Instant::now() + SOON;
    while shared.strong_count() > 0 {
        assert!(Instant::now() < deadline, "the thread that keeps time goes on");
        thread::yield_now();
    }
}

#[test]
fn a_receiver_that_waits_gets_what_comes_or_its_time_is_up() {
    let broker = InProcess::new();
    let subscriber = broker.subscribe("#").unwrap();
    assert_eq!(subscriber.recv_timeout(Duration::from_millis(1)).unwrap_err(), RecvTimeoutError::Timeout);
    let mut forwarder = Forwarder::connected(&broker);
    thread::scope(|scope| {
        let waiting = [(); 2].map(|()| scope.spawn(|| subscriber.recv_timeout(SOON).unwrap().acknowledge()));
        forwarder.send(&["a", "a"]);
        for thread in waiting {
            thread.join().unwrap();
        }
    });
    assert_eq!(broker.counts().acknowledged, 2);
    drop((broker, forwarder));
    assert_eq!(subscriber.recv_timeout(NEVER).unwrap_err(), RecvTimeoutError::Disconnected);
}

#[test]
fn neither_payload_nor_more_than_names_is_shown_for_debugging() {
    let broker = InProcess::builder().record(1).build();
    let mut forwarder = Forwarder::connected(&broker);
    let subscriber = broker.subscribe("#").unwrap();
    let mut delivery = forwarder.delivery("a");
    delivery.message = Message::text("a", "hush");
    forwarder.broker.send(&mut VecDeque::from([delivery]));
    let shown = format!("{broker:?} {subscriber:?} {:?} {:?}", broker.seen(), subscriber.try_recv().unwrap());
    assert!(!shown.contains("hush"), "{shown}");
}
