use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
struct LineItem {
    #[wb(key)]
    id: u64,
}

fn main() {}
