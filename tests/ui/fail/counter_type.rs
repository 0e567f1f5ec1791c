use serde::{Deserialize, Serialize};
use write_behind::{Patch, WriteBehind};

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post")]
struct Post {
    #[wb(key)]
    id: u64,
    #[wb(counter = "TITLE")]
    title: String,
}

#[derive(Serialize, Deserialize)]
struct NotClone;

/// It is an entity; only its patch cannot be applied.
#[derive(Serialize, Deserialize, WriteBehind)]
#[wb(name = "poor")]
struct Poor {
    #[wb(key)]
    id: u64,
    held: NotClone,
}

fn apply(patch: &impl Patch<Poor>, poor: &mut Poor) {
    patch.apply(poor);
}

fn main() {
    let mut poor = Poor { id: 1, held: NotClone };
    apply(&PoorPatch::default(), &mut poor);
}
