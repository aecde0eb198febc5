//! A client id for those who set none.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};

/// 22 letters and digits: what [every broker must take](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Client_Identifier_(ClientID))
/// is up to 23 of them.
pub(in crate::broker::mqtt) fn derived_client_id() -> String {
    // the machine id itself is not for others to see, says machine-id(5)
    let machine = fs::read("/etc/machine-id").map_or(0, |id| crc32fast::hash(&id));
    let random = RandomState::new().build_hasher().finish() & 0xffff_ffff;
    format!("outbox{machine:08x}{random:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_client_ids_differ_and_every_broker_takes_them() {
        let (one, other) = (derived_client_id(), derived_client_id());
        assert_ne!(one, other);
        assert!(one.len() <= 23 && one.bytes().all(|b| b.is_ascii_alphanumeric()), "{one}");
    }
}
