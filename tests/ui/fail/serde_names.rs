use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Inner {
    x: i32,
}

mod hex {
    pub fn serialize<S: serde::Serializer>(_: &i64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_unit()
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(_: D) -> Result<i64, D::Error> {
        Ok(0)
    }
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", collection = "posts")]
struct Post {
    #[wb(key)]
    #[serde(with = "hex")]
    id: i64,
    #[wb(skip)]
    #[serde(flatten)]
    inner: Inner,
    #[wb(native_bson)]
    #[serde(with = "hex")]
    at: i64,
    #[wb(native_bson)]
    #[serde(skip)]
    gone: i64,
}

fn main() {}
