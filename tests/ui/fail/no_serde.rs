use write_behind::WriteBehind;

#[derive(Clone, WriteBehind)]
#[wb(name = "post", table = "posts")]
struct Post {
    #[wb(key)]
    id: i64,
}

fn main() {}
