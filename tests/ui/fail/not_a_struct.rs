use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "a")]
enum Either {
    A,
    B,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "b")]
struct Tuple(u64);

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "c")]
struct Unit;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "d")]
struct Empty {}

#[derive(WriteBehind)]
#[wb(name = "e")]
union Union {
    a: u8,
}

fn main() {}
