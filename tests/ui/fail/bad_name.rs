use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post{7}")]
struct Braces {
    #[wb(key)]
    id: u64,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "blog:post")]
struct Colon {
    #[wb(key)]
    id: u64,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "")]
struct Empty {
    #[wb(key)]
    id: u64,
}

fn main() {}
