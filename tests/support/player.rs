//! The entity of most tests.

use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;
use write_behind::testing::Specimen;

/// A key, and something that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "player")]
pub struct Player {
    /// The key.
    #[wb(key)]
    pub id: u64,
    /// What changes.
    pub score: u64,
}

impl Player {
    /// A player.
    #[must_use]
    pub const fn new(id: u64, score: u64) -> Self {
        Self { id, score }
    }
}

impl Specimen for Player {
    fn specimen(n: u64) -> Self {
        Self { id: n, score: 0 }
    }

    fn revise(&self, round: u64) -> Self {
        Self { id: self.id, score: round }
    }
}
