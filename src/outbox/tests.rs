//! What cannot be brought about from outside without a disk that fails.

use rusqlite::TransactionBehavior;

use super::*;

#[test]
fn a_commit_after_one_that_failed_is_rolled_back_and_the_log_begun_anew_first() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = Outbox::builder(folder.path().join("device.db")).open()?;
    let mut own = Connection::open(outbox.path())?;
    let mut write = |outbox: &Outbox| {
        let transaction = own.transaction_with_behavior(TransactionBehavior::Immediate)?;
        outbox.enqueue(&transaction, &Message::text("weather", "21.5"))?;
        outbox.commit(transaction)
    };
    write(&outbox)?;
    let log = folder.path().join("device.db-wal");
    assert!(std::fs::metadata(&log).expect("a log").len() > 0);

    outbox.inner.disk.doubt_log();
    assert!(matches!(write(&outbox), Err(Error::RolledBack)));
    assert_eq!(std::fs::metadata(&log).expect("a log").len(), 0);
    assert_eq!(outbox.stats()?.pending, 1);
    write(&outbox)?;
    assert_eq!(outbox.stats()?.pending, 2);
    Ok(())
}
