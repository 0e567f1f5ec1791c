use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", patch = "not a name")]
struct Post {
    #[wb(key, counter = "ID")]
    id: u64,
    #[wb(counter = "two words")]
    views: i64,
    #[wb(counter = "LIKES")]
    hates: i64,
    likes: i64,
    #[wb(insert_only, counter = "CREATED")]
    created: u64,
    #[wb(version, counter = "VERSION")]
    version: u64,
    #[wb(skip, counter = "SKIPPED")]
    skipped: u64,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "member", patch = "MemberChanges")]
struct Member {
    #[wb(key)]
    team: u64,
    #[serde(skip)]
    #[wb(counter = "LOST")]
    lost: u64,
}

fn main() {}
