use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post")]
struct Post {
    #[wb(key)]
    a: u8,
    #[wb(key)]
    b: u8,
    #[wb(key)]
    c: u8,
    #[wb(key)]
    d: u8,
    #[wb(key)]
    e: u8,
    #[wb(key)]
    f: u8,
    #[wb(key)]
    g: u8,
}

fn main() {}
