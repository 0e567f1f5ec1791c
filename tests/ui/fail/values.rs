use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb]
#[wb(name = 7, table, format("json"), native_bson = true)]
struct Post {
    #[wb(key = "id")]
    id: u64,
    #[wb(rename)]
    text: String,
    #[wb(skip(always))]
    memo: String,
}

fn main() {}
