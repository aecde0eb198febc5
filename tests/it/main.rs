//! Everything that is tested through the public API, in one binary.

mod child;
mod conformance;
mod device;
mod figures;
mod forwarding;
mod lifecycle;
#[cfg(feature = "mqtt")]
mod mqtt;
mod offline;
mod opening;
mod promises;
mod properties;
mod transaction;

#[cfg(feature = "mqtt")]
#[path = "../support/mosquitto.rs"]
mod mosquitto;
#[cfg(feature = "mqtt")]
#[path = "../support/proxy/mod.rs"]
mod proxy;
