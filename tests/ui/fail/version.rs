use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", collection = "posts")]
struct Post {
    #[wb(key, version)]
    a: u64,
    #[wb(version, skip)]
    b: u64,
    #[wb(insert_only, version)]
    c: u64,
    #[wb(json, version)]
    d: u64,
    #[wb(version = "e", verison)]
    e: u64,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "two", collection = "two", version)]
struct Two {
    #[wb(key)]
    id: u64,
    #[wb(version)]
    #[serde(rename = "a.b")]
    first: u64,
    #[wb(version)]
    #[serde(skip)]
    second: u64,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "nameless", collection = "nameless")]
struct Nameless {
    #[wb(key)]
    id: u64,
    #[wb(version)]
    #[serde(flatten)]
    version: u64,
}

mod text {
    pub fn serialize<S: serde::Serializer>(_: &i64, _: S) -> Result<S::Ok, S::Error> {
        unimplemented!()
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(_: D) -> Result<i64, D::Error> {
        unimplemented!()
    }
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "textual", collection = "textual")]
struct Textual {
    #[wb(key)]
    id: u64,
    #[wb(version)]
    #[serde(with = "text")]
    version: i64,
}

fn main() {}
