//! Fields that the sink sets in a new row only: what readers find agrees with the row once it is flushed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod json_entity;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use wb_core::testing::ScriptedSink;
use wb_core::{Cache, Engine, EntityOptions, ErrorKind, Id, MemoryBuffer, NearCache, RetryPolicy, Role};

const FOREVER: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Post {
    id: u64,
    made: i64,
    text: u64,
}

json_entity!(Post, "post");

const fn post(made: i64, text: u64) -> Post {
    Post { id: 1, made, text }
}

fn sink() -> ScriptedSink<Post> {
    let sink = ScriptedSink::new();
    sink.set_once(|one: &Post, other| one.made == other.made, |before, row| Post { made: before.made, ..row });
    sink
}

struct Bench {
    sink: ScriptedSink<Post>,
    buffer: MemoryBuffer,
    engine: Engine,
    posts: Cache<Post>,
}

impl Bench {
    async fn start() -> Self {
        let (sink, buffer) = (sink(), MemoryBuffer::new());
        let near = NearCache::new(100).max_age(FOREVER);
        let options = EntityOptions::new().retry(RetryPolicy::new().attempts(3)).cache_ttl(FOREVER).near_cache(near);
        let engine = Engine::builder(buffer.clone()).entity::<Post>(sink.clone(), options).start().await.unwrap();
        Self { posts: engine.cache().unwrap(), sink, buffer, engine }
    }

    /// Another process, which keeps values near.
    async fn elsewhere(&self) -> (Engine, Cache<Post>) {
        let options = EntityOptions::new().near_cache(NearCache::new(100).max_age(FOREVER));
        let builder = Engine::builder(self.buffer.clone()).role(Role::Writer);
        let engine = builder.entity::<Post>(self.sink.clone(), options).start().await.unwrap();
        let posts = engine.cache().unwrap();
        (engine, posts)
    }

    fn row(&self) -> Option<Post> {
        self.sink.row(&Id::of(&1_u64).unwrap())
    }

    async fn put(&self, post: Post) {
        self.posts.put(&post).await.unwrap();
    }

    async fn flush(&self) {
        self.posts.flush().await.unwrap();
    }

    async fn get(&self) -> Option<Post> {
        self.posts.get(&1).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_put_is_read_as_the_row_has_it_once_it_is_flushed_here_and_elsewhere() {
    let bench = Bench::start().await;
    let (_there, others) = bench.elsewhere().await;
    bench.put(post(100, 1)).await;
    bench.flush().await;
    assert_eq!(bench.get().await, Some(post(100, 1)));
    for round in 2..6 {
        bench.put(post(999, round)).await;
        assert_eq!(others.get(&1).await.unwrap(), Some(post(999, round)), "what was put, and is kept near");
        bench.flush().await;
        assert_eq!(bench.row(), Some(post(100, round)));
        assert_eq!(bench.get().await, Some(post(100, round)));
        assert_eq!(others.get(&1).await.unwrap(), Some(post(100, round)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_the_row_is_not_loaded_again() {
    let bench = Bench::start().await;
    // That there is no row is known, so the first state is the row.
    bench.posts.put_if_absent(&post(100, 0)).await.unwrap();
    bench.flush().await;
    let loads = bench.sink.loads();
    for round in 1..6 {
        bench.posts.update(&1, move |post| post.text = round).await.unwrap();
        bench.flush().await;
        assert_eq!(bench.get().await, Some(post(100, round)));
        bench.put(post(100, round + 100)).await;
        bench.flush().await;
        assert_eq!(bench.get().await, Some(post(100, round + 100)));
    }
    assert_eq!(bench.sink.loads(), loads);
    // After a delete there is no row, and the next state is one again.
    bench.posts.delete(&1).await.unwrap();
    bench.flush().await;
    bench.put(post(7, 7)).await;
    bench.flush().await;
    assert_eq!((bench.get().await, bench.row()), (Some(post(7, 7)), Some(post(7, 7))));
    assert_eq!(bench.sink.loads(), loads);
}

/// A state that the sink refused stays readable, and says nothing of the row.
#[tokio::test(start_paused = true)]
async fn a_refused_state_is_not_taken_for_the_row() {
    let bench = Bench::start().await;
    bench.put(post(100, 1)).await;
    bench.flush().await;
    assert_eq!(bench.get().await, Some(post(100, 1)));
    bench.sink.refuse(|_| true);
    bench.put(post(999, 2)).await;
    while bench.engine.stats()["post"].refused == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.get().await, Some(post(999, 2)), "what was put");
    bench.sink.accept();
    bench.posts.receipt(&1).unwrap().persisted().await.unwrap();
    assert_eq!((bench.row(), bench.get().await), (Some(post(100, 2)), Some(post(100, 2))));
}

/// A delete and a put in one flush are an update of the row that is there.
#[tokio::test(start_paused = true)]
async fn a_row_that_is_put_again_before_its_delete_is_flushed_keeps_its_values() {
    let bench = Bench::start().await;
    bench.put(post(100, 1)).await;
    bench.flush().await;
    bench.posts.delete(&1).await.unwrap();
    bench.put(post(999, 2)).await;
    bench.flush().await;
    assert_eq!((bench.row(), bench.get().await), (Some(post(100, 2)), Some(post(100, 2))));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_read_as_its_rows_are() {
    let bench = Bench::start().await;
    bench.put(post(100, 1)).await;
    bench.flush().await;
    let two = post(999, 2);
    bench.engine.transaction(|tx| tx.put(&two)).await.unwrap();
    bench.flush().await;
    assert_eq!((bench.row(), bench.get().await), (Some(post(100, 2)), Some(post(100, 2))));
}

/// While the sink is away nothing is made up: what is not known is not read.
#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_not_read_while_the_sink_is_away() {
    let bench = Bench::start().await;
    bench.put(post(100, 1)).await;
    bench.flush().await;
    bench.put(post(999, 2)).await;
    bench.flush().await;
    bench.sink.fail_always(ErrorKind::Unavailable);
    assert!(bench.posts.get(&1).await.is_err());
}
