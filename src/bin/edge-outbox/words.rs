//! The words for what there is a word for, the same in JSON and for people.

use std::time::SystemTime;

use edge_outbox::{LinkState, MessageState, Role, Storage};

/// For what a later version of the library may have added.
pub const UNKNOWN: &str = "unknown";

const DISCARDED: &str = "discarded";

/// As `list --status` takes it.
pub fn state(state: MessageState) -> &'static str {
    match state {
        MessageState::Pending => "pending",
        MessageState::Sent => "sent",
        MessageState::Failed => "failed",
        MessageState::Damaged => "damaged",
        _ => UNKNOWN,
    }
}

/// As [`state`], for people; but what was discarded as the newest row, and stays until there is a newer one, was not sent.
pub fn became(state: MessageState, since: SystemTime, last_error: Option<&str>) -> &'static str {
    match is_discarded(state, since, last_error) {
        true => DISCARDED,
        false => self::state(state),
    }
}

/// By what `discard` leaves of the newest row.
pub fn is_discarded(state: MessageState, since: SystemTime, last_error: Option<&str>) -> bool {
    state == MessageState::Sent && since == SystemTime::UNIX_EPOCH && last_error == Some(DISCARDED)
}

pub fn role(role: Role) -> &'static str {
    match role {
        Role::Writer => "writer",
        Role::Standby => "standby",
        Role::Active => "active",
        Role::Stopped => "stopped",
        _ => UNKNOWN,
    }
}

/// Its word, and the reason where there is one.
pub fn link(link: &LinkState) -> (&'static str, Option<&str>) {
    match link {
        LinkState::Connecting => ("connecting", None),
        LinkState::Up => ("up", None),
        LinkState::Offline { why, .. } => ("offline", Some(why)),
        LinkState::Refused { why, .. } => ("refused", Some(why)),
        LinkState::TopicsClosed { .. } => ("topics_closed", None),
        LinkState::Paused => ("paused", None),
        _ => (UNKNOWN, None),
    }
}

/// As [`link`].
pub fn storage(storage: &Storage) -> (&'static str, Option<&str>) {
    match storage {
        Storage::Ok => ("ok", None),
        Storage::Busy => ("busy", None),
        Storage::Full => ("full", None),
        Storage::Damaged(why) => ("damaged", Some(why)),
        Storage::Replaced(why) => ("replaced", Some(why)),
        Storage::Failing(why) => ("failing", Some(why)),
        _ => (UNKNOWN, None),
    }
}
