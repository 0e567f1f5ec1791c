use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post")]
struct Post {
    #[wb(key)]
    id: f64,
}

fn main() {}
