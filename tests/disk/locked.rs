//! Somebody else has the database locked, for a minute or for longer: a backup, a report, a forgotten shell.

use std::time::Duration;

use edge_outbox::rusqlite::TransactionBehavior;
use edge_outbox::{Error, LinkState, Message, Settings, Storage};

use crate::device::{Device, SOON, broker, enqueue, numbered, quick, value, wait_for_status};

/// Acknowledgements that wait to be written down.
const SETTLEMENT_BUFFER: usize = 500;
const MESSAGES: usize = 2_000;

#[test]
fn while_the_database_is_locked_enqueue_says_so_sending_stops_in_time_and_all_goes_on_afterwards() {
    let device = Device::new();
    let (broker, everything) = broker();
    let settings = Settings { busy_timeout: Duration::from_millis(50), ..quick() };
    let window = settings.window;
    let outbox = device.open_with(settings, broker.clone());
    std::thread::scope(|scope| {
        let acknowledges = scope.spawn(|| {
            for _ in 0..=MESSAGES {
                crate::device::take(&everything);
            }
        });
        enqueue(&outbox, [Message::text("t", "first")]);
        outbox.flush(SOON).unwrap();
        broker.go_offline();
        wait_for_status(&outbox, "the outage", |status| matches!(status.link, LinkState::Offline { .. }));
        enqueue(&outbox, numbered("t", 0..MESSAGES));

        let mut other = device.sql();
        let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        broker.go_online();
        wait_for_status(&outbox, "the lock", |status| status.storage == Storage::Busy);
        // It goes on with what it may, and no further.
        assert!(broker.wait_until(SOON, |counts| counts.acknowledged > SETTLEMENT_BUFFER as u64));
        for _ in 0..20 {
            let answer = outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("t", "p")));
            assert!(matches!(answer, Err(Error::Busy(_))), "{answer:?}");
            assert_eq!(outbox.status().storage, Storage::Busy);
            let sent = broker.counts().received;
            assert!(sent <= (1 + SETTLEMENT_BUFFER + window) as u64, "{sent} are sent and not written down");
        }
        assert_eq!(value::<i64>(&lock, "SELECT count(*) FROM outbox WHERE status = 'SENT'", []), 1);

        drop(lock);
        outbox.flush(SOON).unwrap();
        acknowledges.join().unwrap();
    });
    wait_for_status(&outbox, "the end of it", |status| status.storage == Storage::Ok);
    let counts = broker.counts();
    assert_eq!(counts.received, MESSAGES as u64 + 1, "each once");
    let sent: i64 = value(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []);
    assert_eq!(sent, MESSAGES as i64 + 1);
}
