//! The version of a record.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};
use write_behind::mongo::MongoEntity;
use write_behind::{Entity, VersionField, WriteBehind};

#[derive(Clone, Debug, Serialize, Deserialize, WriteBehind)]
#[serde(rename_all = "camelCase")]
#[wb(name = "post", table = "posts", collection = "posts", rename_all = "SCREAMING_SNAKE_CASE")]
struct Post {
    #[wb(key)]
    id: i64,
    #[wb(version, rename = "COLUMN")]
    row_version: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, WriteBehind)]
#[serde(rename_all = "camelCase")]
#[wb(name = "note", collection = "notes")]
struct Note {
    #[wb(key)]
    id: i64,
    #[wb(version)]
    #[serde(rename(serialize = "v", deserialize = "v"))]
    row_version: u64,
}

/// No sink but one's own.
#[derive(Clone, Debug, Serialize, Deserialize, WriteBehind)]
#[wb(name = "bare", format = "msgpack")]
struct Bare<V> {
    #[wb(key)]
    id: i64,
    #[wb(version)]
    r#type: V,
}

/// A version of the user's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Revision(i64);

impl VersionField for Revision {
    fn to_version(&self) -> i64 {
        self.0
    }

    fn from_version(version: i64) -> Option<Self> {
        Some(Self(version))
    }
}

mod account {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "accounts")]
    #[wb(name = "account", collection = "accounts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        #[wb(version)]
        pub lock_version: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[derive(Clone, Debug, Serialize, Deserialize, WriteBehind)]
#[wb(name = "none", collection = "none")]
struct Unversioned {
    #[wb(key)]
    id: i64,
}

#[test]
fn a_version_is_a_number_and_has_serdes_name_in_a_document() {
    assert_eq!(Post { id: 1, row_version: 7 }.version(), Some(7));
    assert_eq!(Post::VERSION, Some("rowVersion"));
    assert_eq!(Note { id: 1, row_version: 7 }.version(), Some(7));
    assert_eq!(Note::VERSION, Some("v"));
    let document = bson::serialize_to_raw_document_buf(&Post { id: 1, row_version: 7 }).unwrap();
    assert!(matches!(document.get(Post::VERSION.unwrap()), Ok(Some(_))));
    assert_eq!(Bare { id: 1, r#type: -3_i8 }.version(), Some(-3));
    assert_eq!(Bare { id: 1, r#type: Revision(9) }.version(), Some(9));
    assert_eq!(account::Model { id: 1, lock_version: 5 }.version(), Some(5));
    assert_eq!(account::Model::VERSION, Some("lock_version"));
    assert_eq!(Unversioned { id: 1 }.version(), None);
    assert_eq!(Unversioned::VERSION, None);
}

#[test]
fn every_integer_orders_as_itself_and_a_u64_beyond_i64_as_the_last() {
    assert_eq!([i64::MIN.to_version(), i64::MAX.to_version()], [i64::MIN, i64::MAX]);
    assert_eq!([i8::MIN.to_version(), i16::MIN.to_version(), i32::MIN.to_version()], [-128, -32_768, -2_147_483_648]);
    assert_eq!([u8::MAX.to_version(), u16::MAX.to_version(), u32::MAX.to_version()], [255, 65_535, 4_294_967_295]);
    assert_eq!([0_u64.to_version(), u64::MAX.to_version()], [0, i64::MAX]);
}
