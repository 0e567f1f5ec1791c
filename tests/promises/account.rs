//! The entity of these tests: small, with a state that tells old from new, and one that the databases refuse.

use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "account", table = "promise_accounts", collection = "promise_accounts")]
pub(crate) struct Account {
    #[wb(key)]
    pub(crate) id: i64,
    pub(crate) owner: String,
    /// Number of the state; the databases refuse one below zero.
    pub(crate) state: i64,
}

/// A state that every database refuses.
pub(crate) const BAD: i64 = -1;

impl Account {
    pub(crate) fn new(id: i64, state: i64) -> Self {
        // Long enough for Redis to keep a partition as a table, which is read in pages.
        let owner = format!("the owner of account {id}, who has a rather long name – ö'\"\\");
        Self { id, owner, state }
    }
}
