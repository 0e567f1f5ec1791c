//! Inherent items with the names of the trait's, deprecated fields, and attributes behind `cfg_attr`.

#![deny(warnings, deprecated)]
#![expect(clippy::unwrap_used, clippy::non_minimal_cfg, reason = "of this test, not of the output")]

use serde::{Deserialize, Serialize};
use write_behind::{Entity, SqlEntity, WriteBehind};

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[cfg_attr(all(), wb(name = "thing", table = "things"))]
#[wb(collection = "things")]
struct Thing {
    #[cfg_attr(all(), wb(key))]
    id: i32,
    #[cfg(any())]
    gone: NoSuchType,
    #[cfg(all())]
    #[cfg_attr(any(), wb(no_such_word))]
    #[cfg_attr(all(), wb(rename = "kind"))]
    here: String,
    #[deprecated]
    #[wb(version)]
    old: i32,
    #[deprecated]
    #[serde(default)]
    #[wb(counter = "RANKS")]
    rank: i64,
}

#[allow(dead_code)]
impl Thing {
    const NAME: u8 = 1;
    const FORMAT: u8 = 2;
    const COLLECTION: u8 = 3;
    const VERSION: u8 = 4;
    const RANK: u8 = 5;
    fn key(&self) {}
    fn encode(&self) {}
    fn decode(_: u8) {}
    fn table() {}
    fn column() {}
    fn bind(&self) {}
    fn rules() {}
    fn clone(&self) {}
    fn default() {}
    fn to_payload(&self) {}
    fn version(&self) {}
    fn to_version(&self) {}
}

#[test]
fn compiles_and_works() {
    let thing = Thing::decode_one();
    assert_eq!((Entity::key(&thing), Thing::RANKS.name()), (4, "rank"));
    let names: Vec<_> = <Thing as SqlEntity>::table().columns.into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["id", "kind", "old", "rank"]);
}

impl Thing {
    fn decode_one() -> Self {
        <Self as Entity>::decode(br#"{"id":4,"here":"x","old":0}"#).unwrap()
    }
}
