use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Default, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts")]
struct Post {
    #[wb(key)]
    #[serde(skip_deserializing)]
    id: i64,
    #[serde(skip)]
    text: String,
    #[serde(default, skip_serializing)]
    password: String,
}

fn main() {}
