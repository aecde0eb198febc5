//! Where there is no Linux: whether there is a forwarder is all that can be told.

use std::path::Path;

use super::report::Forwarder;
use crate::error::chain;
use crate::forwarder::ForwarderLock;

pub(super) fn forwarder(database: &Path) -> Forwarder {
    match ForwarderLock::is_taken(database) {
        Ok(false) => Forwarder::None,
        Ok(true) => Forwarder::Silent("it tells how it stands on Linux only".to_owned()),
        Err(error) => Forwarder::Silent(format!("it cannot be told whether there is one: {}", chain(&error))),
    }
}
