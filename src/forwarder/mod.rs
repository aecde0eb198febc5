//! The thread that carries messages from the table to the broker.
//!
//! `dispatcher` decides everything and touches nothing: no thread, socket, SQL or clock may enter it. The rest of the
//! folder carries out what it says.

mod boot;
mod deliveries;
mod dispatcher;
mod expiry;
mod flushes;
mod health;
mod lock;
mod outage;
mod parts;
mod run;
mod settling;
mod shared;
mod thread;
mod watch;
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "no_window.rs")]
mod window;

pub(crate) use crate::broker::mailbox::{Command, Event, Flush, Mailbox, Outcome, Ticket};
pub(crate) use lock::ForwarderLock;
pub(crate) use parts::{OnFailed, Parts};
pub(crate) use shared::Shared;
pub(crate) use thread::start;
