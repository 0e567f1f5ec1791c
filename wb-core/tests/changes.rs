//! Changes that depend on the state they meet, over the embedded buffer and a scripted sink, on a paused clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use wb_core::testing::ScriptedSink;
use wb_core::{
    Batch, BufferErrorKind, Cache, CacheError, CodecError, Counter, Engine, Entity, EntityOptions, Format, Id,
    MemoryBuffer, Overflow, Patch, Report, Role, Scope, Sink, SinkError, codec,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Post {
    id: u64,
    title: String,
    views: u32,
    version: i64,
}

impl Post {
    const VIEWS: Counter<Self, u32> = Counter::new("views", |post| &mut post.views);
}

impl Entity for Post {
    type Key = u64;
    const NAME: &'static str = "post";
    const FORMAT: Format = Format::Json;
    const VERSIONED: bool = true;

    fn key(&self) -> u64 {
        self.id
    }

    fn version(&self) -> Option<i64> {
        Some(self.version)
    }

    fn set_version(&mut self, version: i64) -> bool {
        self.version = version;
        true
    }

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(Self::FORMAT, self)
    }

    fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Self::FORMAT, payload)
    }
}

fn post(id: u64, version: i64) -> Post {
    Post { id, title: "old".to_owned(), views: 0, version }
}

struct Bench {
    sink: ScriptedSink<Post>,
    engine: Engine,
    posts: Cache<Post>,
}

async fn engine(buffer: &MemoryBuffer, sink: &ScriptedSink<Post>, options: EntityOptions) -> Bench {
    let engine = Engine::builder(buffer.clone()).entity::<Post>(sink.clone(), options).start().await.unwrap();
    Bench { sink: sink.clone(), posts: engine.cache().unwrap(), engine }
}

async fn bench() -> Bench {
    engine(&MemoryBuffer::new(), &ScriptedSink::new(), EntityOptions::new()).await
}

#[tokio::test(start_paused = true)]
async fn update_changes_what_it_meets_and_raises_the_version() {
    let bench = bench().await;
    bench.posts.put(&post(1, 1)).await.unwrap();
    let updated = bench.posts.update(&1, |post| post.title = "new".to_owned()).await.unwrap();
    assert_eq!(updated, Post { title: "new".to_owned(), version: 2, ..post(1, 1) });
    assert_eq!(bench.posts.get(&1).await.unwrap(), Some(updated));
    // One that raises it itself is left alone.
    assert_eq!(bench.posts.update(&1, |post| post.version = 9).await.unwrap().version, 9);
    let absent = bench.posts.update(&2, |post| post.views = 1).await;
    assert!(matches!(absent, Err(CacheError::Absent { .. })), "{absent:?}");
    let moved = bench.posts.update(&1, |post| post.id = 2).await;
    assert!(matches!(moved, Err(CacheError::KeyChanged { .. })), "{moved:?}");
    assert_eq!(bench.posts.get(&2).await.unwrap(), None, "nothing of it is stored");
}

#[tokio::test(start_paused = true)]
async fn update_reads_what_is_only_in_the_sink() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let first = engine(&buffer, &sink, EntityOptions::new().cache_ttl(Duration::ZERO)).await;
    first.posts.put(&post(1, 1)).await.unwrap();
    first.posts.flush().await.unwrap();
    assert_eq!(first.posts.update(&1, |post| post.views += 5).await.unwrap().views, 5);
    first.posts.flush().await.unwrap();
    assert_eq!(sink.rows().into_values().next().unwrap().views, 5);
    // The anchor is gone with the flush: no copy outlives its TTL of zero for long.
    let loads = sink.loads();
    assert_eq!(first.posts.get(&1).await.unwrap().unwrap().views, 5);
    assert_eq!(sink.loads(), loads + 1);
}

#[tokio::test(start_paused = true)]
async fn a_put_of_a_stale_version_is_a_conflict_and_stores_nothing() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let bench = engine(&buffer, &sink, EntityOptions::new().cache_ttl(Duration::ZERO)).await;
    bench.posts.put(&post(1, 5)).await.unwrap();
    let stale = Post { title: "stale".to_owned(), ..post(1, 4) };
    for phase in ["dirty", "in the sink"] {
        for version in [4, 5] {
            let told = bench.posts.put(&Post { version, ..stale.clone() }).await;
            let expected = matches!(told, Err(CacheError::Conflict { stored: 5, offered, .. }) if offered == version);
            assert!(expected, "{phase}, version {version}: {told:?}");
        }
        assert_eq!(bench.posts.get(&1).await.unwrap(), Some(post(1, 5)), "{phase}");
        assert!(bench.posts.put(&post(1, 5)).await.is_err(), "{phase}: the very same state");
        bench.posts.flush().await.unwrap();
    }
    bench.posts.put(&post(1, 6)).await.unwrap();
    // Whoever deletes has the last word, and the row that it has not reached yet is not overtaken.
    bench.posts.flush().await.unwrap();
    bench.posts.delete(&1).await.unwrap();
    let told = bench.posts.put(&post(1, 1)).await;
    assert!(matches!(told, Err(CacheError::Conflict { stored: 6, offered: 1, .. })), "{told:?}");
    bench.posts.flush().await.unwrap();
    bench.posts.put(&post(1, 1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn put_if_absent_and_replace_say_what_they_met() {
    let bench = bench().await;
    assert!(bench.posts.replace(&post(1, 1)).await.unwrap().is_none());
    assert!(bench.posts.put_if_absent(&post(1, 1)).await.unwrap().is_some());
    assert!(bench.posts.put_if_absent(&post(1, 2)).await.unwrap().is_none());
    assert!(bench.posts.replace(&post(1, 2)).await.unwrap().is_some());
    assert_eq!(bench.posts.get(&1).await.unwrap(), Some(post(1, 2)));
    let removed = bench.posts.compute(&1, |found| found.filter(|_| false)).await.unwrap();
    assert_eq!((removed, bench.posts.get(&1).await.unwrap()), (None, None));
    let made = bench.posts.compute(&3, |found| found.or_else(|| Some(post(3, 7)))).await.unwrap();
    assert_eq!(made, Some(post(3, 7)));
    // Many at once: one gets in.
    let posts: Vec<Post> = (0..50).map(|version| post(9, version)).collect();
    let put = join_all(posts.iter().map(|post| bench.posts.put_if_absent(post))).await;
    assert_eq!(put.into_iter().filter(|receipt| receipt.as_ref().unwrap().is_some()).count(), 1);
}

struct Rename(&'static str);

impl Patch<Post> for Rename {
    fn apply(&self, post: &mut Post) {
        self.0.clone_into(&mut post.title);
    }
}

#[tokio::test(start_paused = true)]
async fn a_patch_leaves_other_fields_alone() {
    let bench = bench().await;
    bench.posts.put(&Post { views: 7, ..post(1, 1) }).await.unwrap();
    let patched = bench.posts.patch(&1, Rename("new")).await.unwrap();
    assert_eq!(patched, Post { id: 1, title: "new".to_owned(), views: 7, version: 2 });
}

#[tokio::test(start_paused = true)]
async fn increments_are_exact_and_go_together() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engines = join_all((0..4).map(|_| engine(&buffer, &sink, EntityOptions::new()))).await;
    engines[0].posts.put(&post(1, 1)).await.unwrap();
    let sums = engines
        .iter()
        .flat_map(|bench| (0..250).map(|_| bench.posts.increment(&1, Post::VIEWS, 1)).collect::<Vec<_>>());
    let mut sums: Vec<u32> = join_all(sums).await.into_iter().map(Result::unwrap).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=1_000).collect::<Vec<_>>(), "each is told its own sum");
    let below = engines[0].posts.increment(&1, Post::VIEWS, -2_000).await;
    assert!(matches!(below, Err(CacheError::Overflow { field: "views", .. })), "{below:?}");
    assert_eq!(engines[3].posts.get(&1).await.unwrap().unwrap().views, 1_000);
    // One that fails does not spoil the others of its round.
    let (good, bad) = tokio::join!(
        engines[0].posts.increment(&1, Post::VIEWS, 1),
        engines[0].posts.increment(&1, Post::VIEWS, i64::MAX)
    );
    assert!(bad.is_err());
    assert_eq!(good.unwrap(), 1_001);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_which_the_caller_goes_away_is_not_made() {
    let bench = bench().await;
    bench.posts.put(&post(1, 1)).await.unwrap();
    let called = Arc::new(AtomicU64::new(0));
    let counted = called.clone();
    let change = bench.posts.update(&1, move |post| {
        counted.fetch_add(1, Ordering::Relaxed);
        post.views = 99;
    });
    {
        use futures::FutureExt;
        assert!(change.now_or_never().is_none(), "it waits for its round");
    }
    bench.posts.update(&1, |post| post.title = "x".to_owned()).await.unwrap();
    assert_eq!((called.load(Ordering::Relaxed), bench.posts.get(&1).await.unwrap().unwrap().views), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_change_is_its_callers_own() {
    let bench = bench().await;
    bench.posts.put(&post(1, 1)).await.unwrap();
    let posts = bench.posts.clone();
    let panics = tokio::spawn(async move { posts.update(&1, |_| panic!("mine")).await });
    let (panicked, updated) = tokio::join!(panics, bench.posts.update(&1, |post| post.views = 3));
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!(updated.unwrap().views, 3);
}

#[tokio::test(start_paused = true)]
async fn p7_a_change_keeps_to_the_limit() {
    let options = EntityOptions::new().max_dirty(1, Overflow::Reject).flush_every(Duration::from_secs(3_600));
    let bench = engine(&MemoryBuffer::new(), &ScriptedSink::new(), options).await;
    bench.posts.put_if_absent(&post(1, 1)).await.unwrap();
    bench.posts.increment(&1, Post::VIEWS, 1).await.unwrap();
    let told = bench.posts.put_if_absent(&post(2, 1)).await;
    assert!(matches!(&told, Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Full), "{told:?}");
    bench.posts.flush().await.unwrap();
    bench.posts.put_if_absent(&post(2, 1)).await.unwrap();

    let waits = Overflow::Wait { timeout: Duration::from_secs(60) };
    let options = EntityOptions::new().max_dirty(1, waits).flush_every(Duration::from_secs(3_600));
    let bench = engine(&MemoryBuffer::new(), &ScriptedSink::new(), options).await;
    bench.posts.put_if_absent(&post(1, 1)).await.unwrap();
    bench.posts.put_if_absent(&post(2, 1)).await.unwrap();
    assert_eq!(bench.sink.rows().len(), 1, "the first made room");
}

#[tokio::test(start_paused = true)]
async fn p11_changes_under_way_are_through_before_a_shutdown_counts() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let bench = engine(&buffer, &sink, EntityOptions::new()).await;
    bench.posts.put(&post(1, 1)).await.unwrap();
    let posts = bench.posts.clone();
    let changes = tokio::spawn(async move { join_all((0..100).map(|_| posts.increment(&1, Post::VIEWS, 1))).await });
    tokio::task::yield_now().await;
    let drained = bench.engine.shutdown(Duration::from_secs(60)).await.unwrap();
    let acknowledged = changes.await.unwrap().into_iter().filter(Result::is_ok).count();
    assert_eq!(drained.remaining, 0);
    assert_eq!(sink.rows().into_values().next().unwrap().views as usize, acknowledged);
    let late = engine(&buffer, &sink, EntityOptions::new()).await.posts.get(&1).await.unwrap();
    assert_eq!(late.unwrap().views as usize, acknowledged);
}

/// A sink whose loads take their time, the first one longer than the others.
#[derive(Clone)]
struct Slow {
    sink: ScriptedSink<Post>,
    loads: Arc<AtomicU64>,
    millis: (u64, u64),
}

#[async_trait]
impl Sink<Post> for Slow {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        self.sink.open(scope).await
    }

    async fn write(&self, batch: &Batch<Post>) -> Result<Report, SinkError> {
        self.sink.write(batch).await
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Post>, SinkError> {
        let first = self.loads.fetch_add(1, Ordering::SeqCst) == 0;
        sleep(Duration::from_millis(if first { self.millis.0 } else { self.millis.1 })).await;
        self.sink.load(keys).await
    }
}

/// Each takes away the mark of a load that does not end; they do not do so to each other for ever.
#[tokio::test(start_paused = true)]
async fn two_processes_that_change_a_row_which_is_slow_to_load_both_come_to_an_end() {
    for millis in [(500, 250), (500, 199), (1_000, 300), (300, 1_000), (3_000, 3_000)] {
        let (buffer, inner) = (MemoryBuffer::new(), ScriptedSink::new());
        inner.set_row(Id::of(&1_u64).unwrap(), post(1, 1));
        let sink = Slow { sink: inner, loads: Arc::default(), millis };
        let mut updates = Vec::new();
        let mut engines = Vec::new();
        for _ in 0..3 {
            let builder = Engine::builder(buffer.clone()).role(Role::Writer);
            let engine = builder.entity::<Post>(sink.clone(), EntityOptions::new()).start().await.unwrap();
            let posts: Cache<Post> = engine.cache().unwrap();
            engines.push(engine);
            updates.push(async move { posts.increment(&1, Post::VIEWS, 1).await });
        }
        // The list of shapes is not young any more.
        sleep(Duration::from_secs(10)).await;
        let updates = updates.into_iter().enumerate().map(|(n, update)| async move {
            sleep(Duration::from_millis(50) * u32::try_from(n).unwrap()).await;
            update.await
        });
        let told = timeout(Duration::from_secs(60), join_all(updates)).await;
        let loads = sink.loads.load(Ordering::SeqCst);
        let told = told.unwrap_or_else(|_| panic!("{millis:?}: no answer after a minute and {loads} loads"));
        let mut sums: Vec<u32> = told.into_iter().map(Result::unwrap).collect();
        sums.sort_unstable();
        assert_eq!(sums, [1, 2, 3], "{millis:?}");
    }
}
