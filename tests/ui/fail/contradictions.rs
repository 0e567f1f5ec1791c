use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", collection = "posts")]
struct Post {
    #[wb(key, skip)]
    a: u64,
    #[wb(key, json)]
    b: u64,
    #[wb(insert_only, key)]
    c: u64,
    #[wb(skip, json)]
    d: u64,
    #[wb(skip, insert_only)]
    e: u64,
    #[wb(skip, native_bson)]
    f: u64,
    #[wb(rename = "x", skip)]
    g: u64,
}

fn main() {}
