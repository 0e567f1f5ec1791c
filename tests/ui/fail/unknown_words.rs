use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(nmae = "post", tabel = "posts", shard = 3)]
struct Post {
    #[wb(kye)]
    id: u64,
    #[wb(insertonly, colour)]
    text: String,
}

fn main() {}
