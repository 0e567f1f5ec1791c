use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "a", collection = "system.users")]
struct A {
    #[wb(key)]
    id: u8,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "b", collection = "")]
struct B {
    #[wb(key)]
    id: u8,
}

fn main() {}
