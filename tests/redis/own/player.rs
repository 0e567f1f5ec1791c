//! The entity of these tests.

use serde::{Deserialize, Serialize};
use write_behind::{CodecError, Entity, Format, Id, codec};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Player {
    pub(crate) id: u64,
    pub(crate) score: u64,
}

impl Player {
    pub(crate) fn new(id: u64, score: u64) -> Self {
        Self { id, score }
    }
}

impl Entity for Player {
    type Key = u64;
    const NAME: &'static str = "player";
    const FORMAT: Format = Format::Json;

    fn key(&self) -> u64 {
        self.id
    }

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(Self::FORMAT, self)
    }

    fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Self::FORMAT, payload)
    }
}

pub(crate) fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}
