use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", collection = "posts")]
struct Post {
    #[wb(key)]
    id: u64,
    #[wb(version)]
    version: Option<i64>,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "note")]
struct Note {
    #[wb(key)]
    id: u64,
    #[wb(version)]
    version: String,
}

fn main() {}
