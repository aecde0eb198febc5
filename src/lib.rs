//! Transactional outbox for edge devices.
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)
)]

pub mod broker;
mod error;
mod forwarder;
mod gate;
mod message;
mod outbox;
mod settings;
mod status;
mod store;

pub use error::Error;
pub use message::{
    DUPLICATE_HEADER, ID_HEADER, MAX_HEADER, MAX_HEADERS, MAX_KEY, MAX_TOPIC, Message, MessageId, Payload, QoS,
    RESERVED_HEADERS,
};
pub use outbox::{Builder, InTransaction, Outbox};
pub use settings::{Backoff, ClosedTopics, Ordering, Settings};
pub use status::{ClosedTopic, FailedMessage, LinkState, MessageState, Role, Stats, Status, Storage, StoredMessage};
pub use {r2d2, r2d2_sqlite, rusqlite};
