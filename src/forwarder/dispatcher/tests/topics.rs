//! Topics that are closed, and tried again by one message.

use std::sync::Arc;
use std::time::Duration;

use crate::forwarder::dispatcher::topics::{Door, Topics};

const SECOND: Duration = Duration::from_secs(1);

fn close(topics: &mut Topics, topic: &str, until: Duration) -> Option<Arc<str>> {
    topics.close(SECOND, &Arc::from(topic), "not authorised".into(), until)
}

#[test]
fn a_closed_topic_lets_one_message_through_when_its_time_has_come() {
    let mut topics = Topics::default();
    assert!(topics.is_empty());
    close(&mut topics, "t", SECOND * 10);
    close(&mut topics, "u", SECOND * 20);
    assert_eq!((topics.door("t"), topics.door("other")), (Door::Shut, Door::Open));
    assert_eq!(topics.next_due(), Some(SECOND * 10));
    assert_eq!(topics.take_due(SECOND * 9, SECOND * 5), None);
    assert_eq!(topics.take_due(SECOND * 10, SECOND * 5).as_deref(), Some("t"));
    assert_eq!(topics.door("t"), Door::Ajar);
    assert_eq!(topics.next_due(), Some(SECOND * 15), "if nothing decides it, it comes again");
    assert_eq!(topics.take_due(SECOND * 10, SECOND * 5), None);

    topics.probe_sent("t", 7);
    assert_eq!(topics.door("t"), Door::Shut, "one, and no more");
    topics.probe_over("t", 8);
    assert_eq!(topics.door("t"), Door::Shut, "that was not the probe");
    topics.probe_over("t", 7);
    assert_eq!(topics.door("t"), Door::Ajar);

    assert!(topics.open("t") && !topics.open("t"));
    assert_eq!((topics.door("t"), topics.door("u")), (Door::Open, Door::Shut));
    assert!(!topics.is_empty());
}

#[test]
fn all_can_be_tried_at_once() {
    let mut topics = Topics::default();
    for (topic, until) in [("t", SECOND * 10), ("u", SECOND)] {
        close(&mut topics, topic, until);
    }
    topics.all_due(SECOND * 2);
    assert_eq!(topics.next_due(), Some(SECOND), "what was due stays so");
    for _ in 0..2 {
        assert!(topics.take_due(SECOND * 2, SECOND * 60).is_some());
    }
    assert_eq!(topics.take_due(SECOND * 2, SECOND * 60), None);
}

#[test]
fn a_thousand_closed_topics_are_kept_in_mind_and_of_more_those_that_wait_longest_are_forgotten() {
    let mut topics = Topics::default();
    for n in 0..1_024 {
        assert_eq!(close(&mut topics, &n.to_string(), SECOND * (2 + n)), None);
    }
    assert_eq!(close(&mut topics, "0", SECOND * 2), None, "one of them, once more");
    assert_eq!(close(&mut topics, "last", SECOND * 9_999).as_deref(), Some("1023"), "not the one that was just closed");
    assert_eq!((topics.iter().count(), topics.door("1023"), topics.door("last")), (1_024, Door::Open, Door::Shut));
}

#[test]
fn all_is_shut_since_the_first_refusal_of_a_session_in_which_nothing_was_taken() {
    let mut topics = Topics::default();
    assert_eq!(topics.all_shut(), None);
    topics.close(SECOND, &Arc::from("t"), String::new(), SECOND * 9);
    topics.close(SECOND * 2, &Arc::from("u"), String::new(), SECOND * 9);
    assert_eq!(topics.all_shut(), Some(SECOND));
    topics.sent();
    assert_eq!(topics.all_shut(), None);
    topics.session_up();
    assert_eq!(topics.all_shut(), None, "nothing was tried on this one");
    topics.close(SECOND * 3, &Arc::from("t"), String::new(), SECOND * 9);
    assert_eq!(topics.all_shut(), Some(SECOND * 3));
    topics.open("t");
    topics.open("u");
    assert_eq!(topics.all_shut(), None);
}
