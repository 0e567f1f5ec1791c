use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", schema = "blog", rename_all = "camelCase", native_bson)]
struct Post {
    #[wb(key, rename = "nr")]
    id: u64,
    #[wb(json)]
    tags: Vec<String>,
    #[wb(insert_only)]
    born: u64,
    #[wb(native_bson)]
    uuid: uuid::Uuid,
    #[wb(skip)]
    memo: String,
}

fn main() {}
