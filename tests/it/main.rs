//! Everything that is tested through the public API, in one binary.

mod budget;
mod child;
#[cfg(feature = "mqtt")]
mod closed_topics;
mod conformance;
mod device;
mod figures;
mod files;
mod forwarding;
mod hostile;
mod lifecycle;
#[cfg(feature = "mqtt")]
mod mqtt;
mod offline;
mod opening;
#[cfg(feature = "mqtt")]
mod poison;
mod promises;
mod properties;
#[cfg(feature = "tls")]
mod secrets;
mod transaction;

#[allow(dead_code)] // the chaos test takes more of it
#[path = "../chaos/chance.rs"]
mod chance;

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
