//! What `stats()` tells is what the caller has just been told otherwise.

use std::time::Duration;

use edge_outbox::broker::InProcess;
use edge_outbox::broker::in_process::Unsubscribed;
use edge_outbox::{Error, Message, Outbox, Settings};

/// Far beyond what any of this takes, the slowest machine included.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn after_a_flush_nothing_is_pending() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let broker = InProcess::builder().unsubscribed(Unsubscribed::Acknowledge).build();
    let settings = Settings { settle_after: Duration::ZERO, ..Settings::default() };
    let outbox = Outbox::builder(folder.path().join("figures.db")).settings(settings).broker(broker).open()?;
    for round in 0..200 {
        outbox.transaction(|tx| -> Result<_, Error> { outbox.enqueue(tx, &Message::text("figures", "1")) })?;
        outbox.flush(SOON)?;
        let stats = outbox.stats()?;
        assert_eq!((stats.pending, stats.in_flight), (0, 0), "round {round}");
        assert_eq!(stats.sent, round + 1);
    }
    Ok(())
}
