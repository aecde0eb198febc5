//! Looking at an outbox by an [`edge_outbox::Inspector`].

pub mod opening;
mod reading;
mod truth;
