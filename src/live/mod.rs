//! How an active forwarder stands, for other processes: one line of JSON from a Unix socket beside the database.
//!
//! Nothing is written for it, and nothing happens until somebody asks: a state that is kept in a file or in the table
//! would wear out the card. Here is what both sides have to agree on; the forwarder serves, the inspector asks.

mod line;
mod place;

pub(crate) use line::{decode, encode, first_of};
pub(crate) use place::Place;
