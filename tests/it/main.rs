//! Everything that is tested through the public API, in one binary.

mod child;
#[cfg(feature = "mqtt")]
mod closed_topics;
mod conformance;
mod damage;
mod device;
mod figures;
mod files;
mod forwarding;
mod lifecycle;
#[cfg(feature = "mqtt")]
mod mqtt;
mod offline;
mod opening;
#[cfg(feature = "mqtt")]
mod poison;
mod promises;
mod properties;
mod transaction;

#[cfg(feature = "tls")]
#[path = "../support/authority.rs"]
mod authority;
#[cfg(feature = "mqtt")]
#[path = "../support/mosquitto.rs"]
mod mosquitto;
#[cfg(feature = "mqtt")]
#[path = "../support/proxy/mod.rs"]
mod proxy;
#[cfg(feature = "mqtt")]
#[path = "../support/scripted.rs"]
mod scripted;
