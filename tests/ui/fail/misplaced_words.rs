use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", key)]
struct Post {
    #[wb(key, table = "posts")]
    id: u64,
}

fn main() {}
