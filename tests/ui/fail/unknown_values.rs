use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", format = "jsno", rename_all = "camelcase", crate = "not a path")]
struct Post {
    #[wb(key)]
    id: u64,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "note", table = "notes", format = "protobuf", rename_all = "title")]
struct Note {
    #[wb(key)]
    id: u64,
}

fn main() {}
