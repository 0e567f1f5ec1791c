use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post" table = "posts")]
struct Post {
    #[wb(key)]
    id: u64,
}

fn main() {}
