use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[derive(Debug)]
struct Tags(Vec<String>);

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", collection = "posts")]
struct Post {
    #[wb(key)]
    id: i64,
    tags: Tags,
    #[wb(skip)]
    memo: Tags,
    #[wb(native_bson)]
    at: Tags,
}

fn main() {}
