//! Append-only entities, end to end, on the embedded buffer and a paused clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use wb_core::testing::{Outcome, ScriptedSink};
use wb_core::{
    AppendOnly, Batch, BeforeFlush, CacheError, CodecError, Engine, Entity, EntityOptions, ErrorKind, Fence, Format,
    Id, KeyError, MemoryBuffer, Overflow, Replay, Report, RetryPolicy, Scope, Sink, SinkError, codec,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Comment {
    id: u64,
    post: u64,
    text: String,
}

impl Entity for Comment {
    type Key = u64;
    const NAME: &'static str = "comment";
    const FORMAT: Format = Format::Json;
    const APPEND: bool = true;
    const PLACED: bool = true;

    fn key(&self) -> u64 {
        self.id
    }

    fn place(&self) -> Result<Id, KeyError> {
        Id::of(&self.post)
    }

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(Self::FORMAT, self)
    }

    fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Self::FORMAT, payload)
    }
}

impl AppendOnly for Comment {}

fn comment(id: u64, post: u64) -> Comment {
    Comment { id, post, text: format!("comment {id}") }
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}

async fn engine(buffer: &MemoryBuffer, sink: &ScriptedSink<Comment>, options: EntityOptions) -> Engine {
    Engine::builder(buffer.clone()).entity::<Comment>(sink.clone(), options).start().await.unwrap()
}

/// The comments of a post in the order in which the sink was given them for good.
fn landed(sink: &ScriptedSink<Comment>, post: u64) -> Vec<u64> {
    let mut ids = Vec::new();
    for entry in sink.log() {
        let Outcome::Written { refused, .. } = &entry.outcome else { continue };
        for id in &entry.order {
            let value = entry.records.get(id).unwrap().as_ref().unwrap();
            if value.post == post && !refused.contains(id) {
                ids.push(value.id);
            }
        }
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn entries_arrive_in_order_and_nothing_is_kept() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine = engine(&buffer, &sink, EntityOptions::new().partitions(4).max_batch(50)).await;
    let comments = engine.appender::<Comment>().unwrap();
    for n in (0..1_000).rev() {
        comments.append(&comment(n, n % 10)).await.unwrap();
    }
    comments.flush().await.unwrap();
    for post in 0..10 {
        let expected: Vec<u64> = (0..1_000).rev().filter(|n| n % 10 == post).collect();
        assert_eq!(landed(&sink, post), expected, "post {post}");
    }
    let stats = engine.stats()["comment"];
    assert_eq!((stats.puts, stats.flushed, stats.dirty_keys), (1_000, 1_000, 0));
    assert_eq!(stats.coalesced_puts, 0);
    let drained = engine.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(drained.remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn what_fits_into_one_batch_is_one_transaction() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine = engine(&buffer, &sink, EntityOptions::new().partitions(16).max_batch(1_000)).await;
    let comments = engine.appender::<Comment>().unwrap();
    // Nearly all of it in one partition.
    let some: Vec<Comment> = (0..1_000).map(|n| comment(n, if n < 900 { 7 } else { n })).collect();
    comments.append_many(&some).await.unwrap().persisted().await.unwrap();
    assert_eq!(sink.log().len(), 1);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cache_of_an_append_only_entity_is_refused_with_advice() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine = engine(&buffer, &sink, EntityOptions::new()).await;
    let error = engine.cache::<Comment>().unwrap_err();
    assert!(error.to_string().contains("engine.appender"), "{error}");
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_entry_does_not_block_is_dead_lettered_and_replayed() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let retry = RetryPolicy::default().attempts(3);
    let engine = engine(&buffer, &sink, EntityOptions::new().partitions(4).retry(retry)).await;
    let comments = engine.appender::<Comment>().unwrap();
    let bad = id(5);
    sink.refuse(move |id| *id == bad);
    let some: Vec<Comment> = (0..10).map(|n| comment(n, 1)).collect();
    let appended = comments.append_many(&some).await.unwrap();
    let error = appended.persisted().await.unwrap_err();
    assert!(matches!(&error, CacheError::DeadLettered { id, .. } if id == "5"), "{error}");
    assert_eq!(landed(&sink, 1), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    let letters = engine.dead_letters::<Comment>().unwrap();
    let page = letters.page(None, 10).await.unwrap();
    assert_eq!(page.letters.len(), 1);
    let letter = &page.letters[0];
    assert_eq!((letter.key::<u64>().unwrap(), letter.letter.attempts), (5, 3));

    sink.accept();
    assert_eq!(letters.replay_at(letter.partition, &letter.id).await.unwrap(), Replay::Again);
    appended.persisted().await.unwrap();
    assert_eq!(letters.count().await.unwrap(), 0);
    assert_eq!(sink.row(&id(5)), Some(comment(5, 1)));
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_good_entry_of_the_same_key_settles_the_letter() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine = engine(&buffer, &sink, EntityOptions::new().retry(RetryPolicy::default().attempts(1))).await;
    let comments = engine.appender::<Comment>().unwrap();
    sink.refuse(|_| true);
    let refused = comments.append(&comment(1, 1)).await.unwrap();
    assert!(matches!(refused.persisted().await, Err(CacheError::DeadLettered { .. })));
    sink.accept();
    comments.append(&comment(1, 1)).await.unwrap().persisted().await.unwrap();
    assert_eq!(engine.dead_letters::<Comment>().unwrap().count().await.unwrap(), 0);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_keeps_the_order_and_dead_letters_nothing() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine = engine(&buffer, &sink, EntityOptions::new().partitions(2).max_batch(7)).await;
    let comments = engine.appender::<Comment>().unwrap();
    sink.fail_always(ErrorKind::Unavailable);
    for n in 0..100 {
        comments.append(&comment(n, n % 2)).await.unwrap();
    }
    assert!(!comments.flush_within(Duration::from_secs(300)).await.unwrap());
    sink.recover();
    sink.lose_next_reply(ErrorKind::Unavailable);
    comments.flush().await.unwrap();
    for post in 0..2 {
        assert_eq!(landed(&sink, post), (0..100).filter(|n| n % 2 == post).collect::<Vec<_>>());
    }
    let stats = engine.stats()["comment"];
    assert_eq!((stats.dead_letters, stats.flushed), (0, 100));
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_shutdown_leaves_is_counted_and_flushed_by_the_next() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let first = engine(&buffer, &sink, EntityOptions::new()).await;
    sink.fail_always(ErrorKind::Unavailable);
    let some: Vec<Comment> = (0..20).map(|n| comment(n, n)).collect();
    first.appender::<Comment>().unwrap().append_many(&some).await.unwrap();
    assert_eq!(first.shutdown(Duration::from_secs(3)).await.unwrap().remaining, 20);
    sink.recover();
    let next = engine(&buffer, &sink, EntityOptions::new()).await;
    next.appender::<Comment>().unwrap().flush().await.unwrap();
    assert_eq!(sink.rows().len(), 20);
    next.shutdown(Duration::from_secs(3)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn p7_entries_never_pass_the_limit() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let options = EntityOptions::new().partitions(2).max_dirty(10, Overflow::Reject);
    let engine = engine(&buffer, &sink, options).await;
    let comments = engine.appender::<Comment>().unwrap();
    sink.hold();
    let some: Vec<Comment> = (0..10).map(|n| comment(n, n)).collect();
    comments.append_many(&some).await.unwrap();
    // The same key once more is an entry once more.
    assert!(matches!(comments.append(&comment(1, 1)).await, Err(CacheError::Buffer(_))));
    sink.release();
    comments.flush().await.unwrap();
    comments.append(&comment(11, 1)).await.unwrap().persisted().await.unwrap();
    engine.shutdown(Duration::from_secs(3)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_twice_in_a_batch_is_one_row_and_the_first_counts() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine = engine(&buffer, &sink, EntityOptions::new()).await;
    let comments = engine.appender::<Comment>().unwrap();
    let twice = [comment(1, 1), comment(2, 1), Comment { text: "later".into(), ..comment(1, 1) }];
    comments.append_many(&twice).await.unwrap().persisted().await.unwrap();
    assert_eq!(landed(&sink, 1), [1, 2]);
    assert_eq!(sink.row(&id(1)), Some(comment(1, 1)));
    assert_eq!(engine.stats()["comment"].flushed, 3);
    engine.shutdown(Duration::from_secs(3)).await.unwrap();
}

/// The second entry of a key must not be taken for written, and settle the letter of the first.
#[tokio::test(start_paused = true)]
async fn what_the_hook_refuses_stays_a_letter_when_its_key_comes_twice() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let options = EntityOptions::new().flush_every(Duration::from_secs(1));
    let engine = Engine::builder(buffer.clone())
        .entity::<Comment>(sink.clone(), options)
        .before_flush::<Comment>(|comment| match comment.id {
            2 => BeforeFlush::Write(Comment { id: 3, ..comment }),
            4 => BeforeFlush::Skip,
            _ => BeforeFlush::Write(comment),
        })
        .start()
        .await
        .unwrap();
    let comments = engine.appender::<Comment>().unwrap();
    comments.append_many(&[comment(1, 7), comment(2, 7), comment(2, 7), comment(4, 7)]).await.unwrap();
    comments.flush().await.unwrap();
    let letters = engine.dead_letters::<Comment>().unwrap();
    assert_eq!(letters.count().await.unwrap(), 1);
    let kinds: Vec<String> =
        letters.page(None, 10).await.unwrap().letters.into_iter().map(|letter| letter.letter.kind).collect();
    assert_eq!(kinds, ["hook"]);
    assert_eq!(sink.rows().into_values().map(|comment| comment.id).collect::<Vec<_>>(), [1]);
}

/// A sink that panics whenever it is given this entry.
struct Panics {
    inner: ScriptedSink<Comment>,
    at: Id,
}

#[async_trait]
impl Sink<Comment> for Panics {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        Sink::open(&self.inner, scope).await
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        self.inner.fence(scope, partition).await
    }

    async fn write(&self, batch: &Batch<Comment>) -> Result<Report, SinkError> {
        assert!(batch.upserts.iter().all(|upsert| upsert.id != self.at), "scripted panic");
        self.inner.write(batch).await
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Comment>, SinkError> {
        self.inner.load(keys).await
    }
}

/// Ten entries of one log, of which one is never taken: the others land in their order.
async fn others_keep_their_order(bad: u64, sink: impl Sink<Comment>, scripted: &ScriptedSink<Comment>, what: &str) {
    let options = EntityOptions::new().partitions(1).retry(RetryPolicy::default().attempts(2));
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Comment>(sink, options).start().await.unwrap();
    let comments = engine.appender::<Comment>().unwrap();
    comments.append_many(&(0..10).map(|n| comment(n, 1)).collect::<Vec<_>>()).await.unwrap();
    comments.flush().await.unwrap();
    let expected: Vec<u64> = (0..10).filter(|n| *n != bad).collect();
    assert_eq!(landed(scripted, 1), expected, "{what} at {bad}");
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn p3_entries_keep_their_order_around_one_that_is_refused_with_its_batch() {
    for bad in 0..10 {
        let sink = ScriptedSink::new();
        sink.refuse_whole(ErrorKind::Rejected, move |found| *found == id(bad));
        others_keep_their_order(bad, sink.clone(), &sink, "refused").await;
    }
}

#[tokio::test(start_paused = true)]
async fn p3_entries_keep_their_order_around_one_that_makes_the_sink_panic() {
    for bad in 0..10 {
        let inner = ScriptedSink::new();
        let sink = Panics { inner: inner.clone(), at: id(bad) };
        others_keep_their_order(bad, sink, &inner, "panics").await;
    }
}

/// Many that are refused, in logs that are flushed beside each other.
#[tokio::test(start_paused = true)]
async fn p3_entries_of_each_log_keep_their_order_whatever_is_refused() {
    let sink = ScriptedSink::new();
    let bad = |n: u64| n % 7 == 3 || n.is_multiple_of(31);
    sink.refuse_whole(ErrorKind::Rejected, move |found| (0..1_000).any(|n| bad(n) && *found == id(n)));
    let options = EntityOptions::new().partitions(8).max_batch(60).retry(RetryPolicy::default().attempts(1));
    let engine = engine(&MemoryBuffer::new(), &sink, options).await;
    let comments = engine.appender::<Comment>().unwrap();
    for chunk in (0..1_000).map(|n| comment(n, n % 10)).collect::<Vec<_>>().chunks(100) {
        comments.append_many(chunk).await.unwrap();
    }
    comments.flush().await.unwrap();
    for post in 0..10 {
        let expected: Vec<u64> = (0..1_000).filter(|n| n % 10 == post && !bad(*n)).collect();
        assert_eq!(landed(&sink, post), expected, "post {post}");
    }
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}
