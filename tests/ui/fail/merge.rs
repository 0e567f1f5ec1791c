use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "a", table = "a", merge)]
struct WithoutCollection {
    #[wb(key)]
    id: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Inner {
    x: u64,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "b", collection = "b", merge)]
struct WithoutNames {
    #[wb(key)]
    id: u64,
    #[serde(flatten)]
    inner: Inner,
    #[serde(rename = "a.b")]
    dotted: u64,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "c", collection = "c")]
struct Replaced {
    #[wb(key)]
    id: u64,
    #[wb(insert_only)]
    created: u64,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "d", collection = "d", client_keys)]
struct WithoutTable {
    #[wb(key)]
    id: u64,
}

fn main() {}
