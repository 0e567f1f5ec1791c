//! The entity that the storm is about: a record that says which operation made it.

use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "item", table = "items", collection = "items")]
pub(crate) struct Item {
    #[wb(key)]
    pub(crate) id: i64,
    /// Number of the operation; grows with every operation on the key, deletes included.
    pub(crate) seq: i64,
    pub(crate) payload: String,
}

impl Item {
    /// What operation `seq` on key `id` writes.
    pub(crate) fn state(id: i64, seq: i64) -> Self {
        let filling = "x".repeat(usize::try_from(seq % 97).unwrap());
        Self { id, seq, payload: format!("{id}/{seq} {filling}") }
    }
}
