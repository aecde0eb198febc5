//! Every SQL statement of this crate stands in this folder.

mod row;

pub(crate) use row::{Batch, Content, Fate, Lane, Query, Row, Settlement};
