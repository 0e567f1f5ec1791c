//! An entity with a version.

use serde::{Deserialize, Serialize};
use wb_core::testing::Specimen;
use wb_core::{CodecError, Entity, Format, codec};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) id: u64,
    pub(crate) version: i64,
    pub(crate) text: String,
}

impl Entity for Note {
    type Key = u64;
    const NAME: &'static str = "note";
    const FORMAT: Format = Format::Json;

    fn key(&self) -> u64 {
        self.id
    }

    fn version(&self) -> Option<i64> {
        Some(self.version)
    }

    fn set_version(&mut self, version: i64) -> bool {
        self.version = version;
        true
    }

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(Self::FORMAT, self)
    }

    fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Self::FORMAT, payload)
    }
}

impl Specimen for Note {
    fn specimen(n: u64) -> Self {
        Self { id: n, version: 0, text: String::new() }
    }

    fn revise(&self, round: u64) -> Self {
        Self { id: self.id, version: i64::try_from(round).unwrap_or(i64::MAX), text: format!("round {round}") }
    }
}
