//! Keys with an unsettled message in flight, for [`Ordering::Strict`]: else none is busy.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::settings::Ordering;
use crate::store::Row;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct BusyKeys {
    ordering: Ordering,
    /// How many messages of each.
    keys: BTreeMap<Arc<str>, usize>,
}

impl BusyKeys {
    pub fn new(ordering: Ordering) -> Self {
        BusyKeys { ordering, keys: BTreeMap::new() }
    }

    /// Whether the row has to wait for another one of its key.
    pub fn contain(&self, row: &Row) -> bool {
        row.key.as_ref().is_some_and(|key| self.keys.contains_key(key))
    }

    pub fn occupy(&mut self, row: &Row) {
        if let (Ordering::Strict, Some(key)) = (self.ordering, &row.key) {
            *self.keys.entry(key.clone()).or_default() += 1;
        }
    }

    pub fn release(&mut self, row: &Row) {
        let Some(key) = &row.key else { return };
        if let Some(count) = self.keys.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(key);
            }
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}
