//! The suite against the in-process broker, which can be told every fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use edge_outbox::broker::in_process::Arrival;
use edge_outbox::broker::{Broker, InProcess, Refusal};

use super::ROOT;
use super::subject::{Cannot, Fault, Inbox, Received, Subject};

pub struct InProcessSubject {
    broker: InProcess,
    inbox: Arc<Inbox>,
    /// Arrivals that the consumer is to drop.
    let_go: Arc<AtomicUsize>,
}

impl InProcessSubject {
    pub fn new() -> Self {
        let broker = InProcess::new();
        let subscriber = broker.subscribe(&format!("{ROOT}/#")).unwrap();
        let (inbox, let_go) = (Arc::new(Inbox::default()), Arc::new(AtomicUsize::new(0)));
        let consumer = (Arc::clone(&inbox), Arc::clone(&let_go));
        // Ends with the last handle to the broker.
        thread::spawn(move || subscriber.iter().for_each(|arrival| consume(arrival, &consumer.0, &consumer.1)));
        InProcessSubject { broker, inbox, let_go }
    }
}

fn consume(arrival: Arrival, inbox: &Inbox, let_go: &AtomicUsize) {
    if let_go.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        return;
    }
    let payload = String::from_utf8(arrival.message.payload.as_bytes().to_vec()).unwrap();
    inbox.put(Received { topic: arrival.message.topic.clone(), payload, id: Some(arrival.id) });
    arrival.acknowledge();
}

impl Subject for InProcessSubject {
    const NAME: &str = "the in-process broker";

    fn broker(&self) -> Box<dyn Broker> {
        Box::new(self.broker.clone())
    }

    fn break_link(&self) {
        self.broker.go_offline();
    }

    fn heal_link(&self) {
        self.broker.go_online();
    }

    fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    fn inflict(&self, fault: &Fault) -> Result<(), Cannot> {
        match fault {
            Fault::Refuse { topic, verdict, times } => {
                self.broker.refuse(topic, Refusal::new(*verdict, "told to refuse"), *times).unwrap();
            }
            Fault::RefuseSessions => self.broker.refuse_sessions("told to refuse"),
            Fault::LoseAcknowledgements(count) => self.broker.lose_acknowledgements(*count),
            Fault::DelayAcknowledgements(by) => self.broker.delay_acknowledgements(*by),
            Fault::LetGo(count) => self.let_go.store(*count, Ordering::SeqCst),
            Fault::HangUp { topic } => self.broker.hang_up_on(topic).unwrap(),
        }
        Ok(())
    }

    fn mend(&self) {
        self.let_go.store(0, Ordering::SeqCst);
        self.broker.behave();
    }
}

super::conformance!(InProcessSubject::new);
