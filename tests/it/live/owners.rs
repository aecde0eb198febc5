//! Files of ours are for those whom the database is for, whoever made them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use edge_outbox::{Message, Outbox, Role};

use super::{beside, live};
use crate::child::Child;
use crate::device::{Device, SOON, broker, quick, wait_for_status};
use crate::opening::skipped;

const NOBODY: u32 = 65_534;

/// A database of nobody's, which root forwards from first.
#[test]
fn what_root_did_first_the_applications_user_goes_on_with() {
    let device = Device::new();
    drop(device.sql().execute_batch("CREATE TABLE reading (value REAL)"));
    fs::set_permissions(device.database(), Permissions::from_mode(0o660)).unwrap();
    let given = chown(device.folder(), Some(NOBODY), Some(NOBODY));
    if let Err(error) = given.and_then(|()| chown(device.database(), Some(NOBODY), Some(NOBODY))) {
        return skipped(
            "a forwarder of root's before the application's",
            &format!("only root gives files away: {error}"),
        );
    }
    let (broker, everything) = broker();
    let outbox = Outbox::builder(device.database()).settings(quick()).broker(broker).open().unwrap();
    wait_for_status(&outbox, "active", |status| status.role == Role::Active);
    let message = Message::text("weather", "root's");
    outbox.transaction(|tx| outbox.enqueue(tx, &message).map(drop)).unwrap();
    assert_eq!(crate::device::take(&everything), "root's");
    live(&device.database());
    for (suffix, mode) in [("-outbox-lock", 0o660), ("-outbox-reserve", 0o660), ("-outbox-status", 0o660)] {
        let found = fs::symlink_metadata(beside(&device.database(), suffix)).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (NOBODY, NOBODY, mode), "{suffix}");
    }
    let mut asks = match Child::play_as_nobody("live::asks", &device.database()) {
        Ok(child) => child,
        Err(error) => return skipped("asking a forwarder of root's", &format!("no process of another user: {error}")),
    };
    let said = asks.hear();
    assert!(said.starts_with("Active(") && said.contains(&std::process::id().to_string()), "{said}");
    outbox.shutdown(SOON).unwrap();
    drop(outbox);

    let mut child = Child::play_as_nobody("live::forwards", &device.database()).unwrap();
    assert_eq!(child.hear(), "open");
    assert_eq!(child.ask("and now?"), "active");
    assert_eq!(live(&device.database()).process, child.pid());
    child.kill();
    // And the other way round: what the application's user leaves behind is in nobody's way.
    let (broker, _everything) = crate::device::broker();
    let outbox = device.open(broker);
    wait_for_status(&outbox, "active", |status| status.role == Role::Active);
    assert_eq!(live(&device.database()).process, std::process::id());
}

/// Whoever may not read the database may not ask either, and is told so.
#[test]
fn those_who_may_not_read_the_database_are_not_told_how_its_forwarder_stands() {
    let device = Device::new();
    let (broker, _everything) = broker();
    drop(device.open_writer());
    fs::set_permissions(device.folder(), Permissions::from_mode(0o755)).unwrap();
    let socket = beside(&device.database(), "-outbox-status");
    for (mode, of_socket) in [(0o600, 0o600), (0o640, 0o660), (0o644, 0o666)] {
        fs::set_permissions(device.database(), Permissions::from_mode(mode)).unwrap();
        let outbox = device.open(broker.clone());
        wait_for_status(&outbox, "active", |status| status.role == Role::Active);
        assert_eq!(fs::symlink_metadata(&socket).unwrap().mode() & 0o777, of_socket, "a database with mode {mode:o}");
    }
}
