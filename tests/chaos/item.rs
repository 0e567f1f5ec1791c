//! The entity that the storm is about, a record that says which operation made it, as two programs know it: the newer
//! one has one field more.

use serde::{Deserialize, Serialize};
use write_behind::{Entity, WriteBehind};

/// Keys from here on belong to the newer program: an older one reads and updates their records, and never takes their
/// notes away.
const NOTED: i64 = 500_000_000;
/// Above them.
const NOTED_END: i64 = 1_000_000_000;

/// The older program's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "item", table = "items", collection = "items")]
pub(crate) struct Item {
    #[wb(key)]
    pub(crate) id: i64,
    /// Number of the operation; grows with every operation on the key, deletes included.
    pub(crate) seq: i64,
    pub(crate) payload: String,
}

/// The newer program's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "item", table = "items", collection = "items")]
pub(crate) struct Noted {
    #[wb(key)]
    pub(crate) id: i64,
    pub(crate) seq: i64,
    pub(crate) payload: String,
    /// The same for ever, see [`note`].
    pub(crate) note: Option<String>,
}

impl Item {
    /// What operation `seq` on key `id` writes.
    pub(crate) fn state(id: i64, seq: i64) -> Self {
        let filling = "x".repeat(usize::try_from(seq % 97).unwrap());
        Self { id, seq, payload: format!("{id}/{seq} {filling}") }
    }
}

/// The n-th key of a task that belongs to the newer program.
pub(crate) fn noted_key(first_key: i64, task: i64, n: i64) -> i64 {
    NOTED + 1_000 * first_key + 10 * task + n
}

/// The note that a record of this key must have; `None`: none.
pub(crate) fn note(id: i64) -> Option<String> {
    (NOTED..NOTED_END).contains(&id).then(|| format!("note of {id}"))
}

/// The record in the words of either program.
pub(crate) trait Record: Entity<Key = i64> {
    /// Whether this is the newer program.
    const NEWER: bool;
    /// What operation `seq` on key `id` writes.
    fn state(id: i64, seq: i64) -> Self;
    /// Makes it the state of operation `seq`, and leaves the rest as it is.
    fn renew(&mut self, seq: i64);
    /// What both know of it.
    fn item(self) -> Item;
}

impl Record for Item {
    const NEWER: bool = false;

    fn state(id: i64, seq: i64) -> Self {
        Self::state(id, seq)
    }

    fn renew(&mut self, seq: i64) {
        *self = Self::state(self.id, seq);
    }

    fn item(self) -> Item {
        self
    }
}

impl Record for Noted {
    const NEWER: bool = true;

    fn state(id: i64, seq: i64) -> Self {
        let Item { id, seq, payload } = Item::state(id, seq);
        Self { id, seq, payload, note: note(id) }
    }

    fn renew(&mut self, seq: i64) {
        let Item { payload, .. } = Item::state(self.id, seq);
        (self.seq, self.payload) = (seq, payload);
    }

    fn item(self) -> Item {
        Item { id: self.id, seq: self.seq, payload: self.payload }
    }
}
