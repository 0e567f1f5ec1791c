use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", collection = "posts", tabel = "x")]
struct Post {
    #[wb(key)]
    id: i64,
}

fn entity<E: write_behind::Entity>(_: E) -> E::Key {
    unimplemented!()
}

fn sinks<E: write_behind::SqlEntity + write_behind::mongo::MongoEntity>(_: E) {}

pub fn uses(post: Post) -> i64 {
    sinks(post.clone());
    entity(post)
}

fn main() {}
