use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", rename_all = "camelCase")]
struct Post {
    #[wb(key)]
    id: i64,
    post_title: String,
    #[wb(rename = "postTitle")]
    headline: String,
    #[wb(rename = "")]
    empty: String,
}

fn main() {}
