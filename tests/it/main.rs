//! Everything that is tested through the public API, in one binary.

mod child;
mod conformance;
mod device;
mod figures;
mod forwarding;
mod lifecycle;
mod offline;
mod opening;
mod promises;
mod transaction;
