//! The entities of these tests.

use bson::{Bson, doc};
use serde::{Deserialize, Serialize};
use write_behind::mongo::{FieldRule, MappingError, MongoEntity};
use write_behind::testing::Specimen;
use write_behind::{CodecError, Entity, Format, codec};

/// What the derive would write for these structs.
macro_rules! entity {
    ($name:ident, $collection:literal, ($key:ty) = |$value:ident| $of:expr, |$id:ident| $id_of:expr) => {
        $crate::entities::entity!($name, $collection, ($key) = |$value| $of, |$id| $id_of, &[]);
    };
    ($name:ident, $collection:literal, ($key:ty) = |$value:ident| $of:expr, |$id:ident| $id_of:expr, $rules:expr) => {
        impl Entity for $name {
            type Key = $key;
            const NAME: &'static str = $collection;
            const FORMAT: Format = Format::Json;

            fn key(&self) -> $key {
                let $value = self;
                $of
            }

            fn encode(&self) -> Result<Vec<u8>, CodecError> {
                codec::encode(Self::FORMAT, self)
            }

            fn decode(payload: &[u8]) -> Result<Self, CodecError> {
                codec::decode(Self::FORMAT, payload)
            }
        }

        impl MongoEntity for $name {
            const COLLECTION: &'static str = $collection;

            fn rules() -> &'static [FieldRule<Self>] {
                $rules
            }

            fn id_of(key: &$key) -> Result<Bson, MappingError> {
                let $id = key;
                Ok($id_of)
            }
        }
    };
}
pub(crate) use entity;

/// A record with a unique `email` where a test makes an index, and a `score` where it makes a validator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Player {
    pub(crate) id: i64,
    pub(crate) email: String,
    pub(crate) score: i64,
    pub(crate) notes: String,
}

entity!(Player, "players", (i64) = |player| player.id, |id| Bson::Int64(*id));

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

/// A composite key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(crate) team: String,
    pub(crate) member: i32,
    pub(crate) role: String,
}

entity!(Membership, "memberships", ((String, i32)) = |m| (m.team.clone(), m.member), |key| {
    Bson::Document(doc! { "team": &key.0, "member": key.1 })
});

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Renamed {
    pub(crate) name: String,
    #[serde(rename = "_id")]
    pub(crate) id: i32,
}

// The key's own form differs in width from serde's, as two drivers' forms of one number do.
entity!(Renamed, "renamed", (i32) = |renamed| renamed.id, |id| Bson::Int64(i64::from(*id)));

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

entity!(Foreign, "foreign", (i64) = |foreign| foreign.id, |id| Bson::Int64(*id));

/// A struct that denies the `_id` that is added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Strict {
    pub(crate) id: i64,
    pub(crate) name: String,
}

entity!(Strict, "strict", (i64) = |strict| strict.id, |id| Bson::Int64(*id));
