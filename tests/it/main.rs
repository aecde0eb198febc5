//! Everything that is tested through the public API, in one binary.

mod budget;
#[cfg(feature = "mqtt")]
mod closed_topics;
mod conformance;
mod damage;
mod figures;
mod files;
mod forwarding;
mod hostile;
mod inspector;
mod lifecycle;
mod live;
mod mending;
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

#[path = "../support/chance.rs"]
mod chance;

#[cfg(feature = "tls")]
#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/child.rs"]
mod child;
#[path = "../support/device.rs"]
mod device;
#[cfg(feature = "mqtt")]
#[path = "../support/mosquitto.rs"]
mod mosquitto;
#[cfg(feature = "mqtt")]
#[path = "../support/proxy/mod.rs"]
mod proxy;
#[cfg(feature = "mqtt")]
#[path = "../support/scripted.rs"]
mod scripted;

/// The parts that are played in a process of their own, by name.
const PARTS: &[(&str, child::Part)] = &[
    ("budget::fills", budget::fills),
    ("opening::opens", opening::opens),
    ("forwarding::commits", forwarding::commits),
    ("forwarding::dies_with_messages_in_flight", forwarding::dies_with_messages_in_flight),
    ("lifecycle::forwards", lifecycle::forwards),
    ("lifecycle::dies_in_a_transaction", lifecycle::dies_in_a_transaction),
    ("live::forwards", live::forwards),
    ("live::asks", live::asks),
    ("inspector::looks", inspector::opening::looks),
    ("hostile::settles_everything", hostile::settles_everything),
    ("offline::waits", offline::waits),
    ("offline::waits_in_vain", offline::waits_in_vain),
    #[cfg(feature = "tls")]
    ("secrets::goes_through_everything", secrets::goes_through_everything),
];
