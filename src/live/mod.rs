//! How an active forwarder stands, for other processes: one line of JSON from a Unix socket beside the database.
//!
//! Nothing is written for it, and nothing happens until somebody asks: a state that is kept in a file or in the table
//! would wear out the card. Here is what both sides have to agree on; the forwarder serves, the inspector asks.

#![cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    allow(dead_code, unused_imports, reason = "there is nobody to tell: see forwarder/no_window.rs")
)]

mod line;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod place;

pub(crate) use line::{decode, encode, first_of};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use place::Place;
