use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

struct PostPatch;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post")]
struct Post {
    #[wb(key)]
    id: u64,
    views: i64,
}

impl Post {
    const VIEWS: u8 = 1;
}

fn main() {}
