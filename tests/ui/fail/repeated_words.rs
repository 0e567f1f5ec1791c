use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", name = "article")]
#[wb(table = "articles")]
struct Post {
    #[wb(key, key)]
    id: u64,
    #[wb(json)]
    #[wb(json)]
    tags: Vec<String>,
}

fn main() {}
