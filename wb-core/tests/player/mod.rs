//! The entity of the tests.

use serde::{Deserialize, Serialize};
use wb_core::testing::Specimen;
use wb_core::{CodecError, Entity, Format, codec};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Player {
    pub(crate) id: u64,
    pub(crate) score: u64,
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

impl Specimen for Player {
    fn specimen(n: u64) -> Self {
        Self { id: n, score: 0 }
    }

    fn revise(&self, round: u64) -> Self {
        Self { id: self.id, score: round }
    }
}
