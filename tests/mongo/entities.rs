//! The entities of these tests.

use bson::Bson;
use serde::{Deserialize, Serialize};
use write_behind::mongo::{FieldRule, MappingError, MongoEntity};
use write_behind::testing::Specimen;
use write_behind::{CodecError, Entity, Format, WriteBehind, codec};

/// A record with a unique `email` where a test makes an index, and a `score` where it makes a validator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "players", collection = "players")]
pub(crate) struct Player {
    #[wb(key)]
    pub(crate) id: i64,
    pub(crate) email: String,
    pub(crate) score: i64,
    pub(crate) notes: String,
}

impl Player {
    pub(crate) fn new(id: i64) -> Self {
        Self { id, email: format!("{id}@example.org"), score: 0, notes: String::new() }
    }

    pub(crate) fn range(ids: std::ops::Range<i64>) -> Vec<Self> {
        ids.map(Self::new).collect()
    }
}

impl Specimen for Player {
    fn specimen(n: u64) -> Self {
        Self::new(i64::try_from(n).unwrap())
    }

    fn revise(&self, round: u64) -> Self {
        Self { score: i64::try_from(round).unwrap(), ..self.clone() }
    }
}

/// A record with a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[serde(rename_all = "camelCase")]
#[wb(name = "versioned", collection = "versioned")]
pub(crate) struct Versioned {
    #[wb(key)]
    pub(crate) id: i64,
    #[wb(version)]
    pub(crate) row_version: i64,
    pub(crate) text: String,
}

impl Versioned {
    pub(crate) fn new(id: i64, row_version: i64, text: &str) -> Self {
        Self { id, row_version, text: text.to_owned() }
    }
}

impl Specimen for Versioned {
    fn specimen(n: u64) -> Self {
        Self::new(i64::try_from(n).unwrap(), 0, "new")
    }

    fn revise(&self, round: u64) -> Self {
        Self::new(self.id, i64::try_from(round).unwrap(), "$$ROOT.$text")
    }
}

/// A composite key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "memberships", collection = "memberships")]
pub(crate) struct Membership {
    #[wb(key)]
    pub(crate) team: String,
    #[wb(key)]
    pub(crate) member: i32,
    pub(crate) role: String,
}

impl Specimen for Membership {
    fn specimen(n: u64) -> Self {
        let member = i32::try_from(n).unwrap();
        Self { team: format!("team:{}", n % 7), member, role: "guest".to_owned() }
    }

    fn revise(&self, round: u64) -> Self {
        Self { role: format!("role {round}"), ..self.clone() }
    }
}

/// A key field that is `_id` to serde.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "renamed", collection = "renamed")]
pub(crate) struct Renamed {
    pub(crate) name: String,
    #[wb(key)]
    #[serde(rename = "_id")]
    pub(crate) id: i32,
}

impl Specimen for Renamed {
    fn specimen(n: u64) -> Self {
        Self { name: "new".to_owned(), id: i32::try_from(n).unwrap() }
    }

    fn revise(&self, round: u64) -> Self {
        Self { name: format!("round {round}"), ..self.clone() }
    }
}

/// A field that takes the name `_id`, but is not the key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Foreign {
    pub(crate) id: i64,
    #[serde(rename = "_id")]
    pub(crate) other: i64,
}

// By hand: the derive does not let a field that is not the key take the name.
impl Entity for Foreign {
    type Key = i64;
    const NAME: &'static str = "foreign";
    const FORMAT: Format = Format::Json;

    fn key(&self) -> i64 {
        self.id
    }

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(Self::FORMAT, self)
    }

    fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Self::FORMAT, payload)
    }
}

impl MongoEntity for Foreign {
    const COLLECTION: &'static str = "foreign";

    fn rules() -> &'static [FieldRule<Self>] {
        &[]
    }

    fn id_of(key: &i64) -> Result<Bson, MappingError> {
        Ok(Bson::Int64(*key))
    }
}

/// A struct that denies the `_id` that is added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[serde(deny_unknown_fields)]
#[wb(name = "strict", collection = "strict")]
pub(crate) struct Strict {
    #[wb(key)]
    pub(crate) id: i64,
    pub(crate) name: String,
}
