//! Append-only entities, end to end, on the embedded buffer and a paused clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wb_core::testing::{Outcome, ScriptedSink};
use wb_core::{
    AppendOnly, BeforeFlush, CacheError, CodecError, Engine, Entity, EntityOptions, ErrorKind, Format, Id, KeyError,
    MemoryBuffer, Overflow, Replay, RetryPolicy, codec,
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
        let comment: Self = codec::decode(Self::FORMAT, payload)?;
        let readable = comment.text != UNREADABLE || READS_ALL.get();
        if readable { Ok(comment) } else { codec::decode(Self::FORMAT, b"}") }
    }
}

impl AppendOnly for Comment {}

/// A text that this program writes and does not read.
const UNREADABLE: &str = "unreadable";

thread_local! {
    /// Whether this is a later program, which reads it.
    static READS_ALL: Cell<bool> = const { Cell::new(false) };
}

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

/// Its letter stands under an id that is made from its payload, not from its key.
#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_is_not_persisted_and_the_others_are() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine = engine(&buffer, &sink, EntityOptions::new()).await;
    let comments = engine.appender::<Comment>().unwrap();
    let unreadable = |id| Comment { text: UNREADABLE.into(), ..comment(id, 1) };
    let good = comments.append(&comment(1, 1)).await.unwrap();
    let bad = comments.append(&unreadable(2)).await.unwrap();
    let mixed = comments.append_many(&[comment(3, 1), unreadable(4)]).await.unwrap();
    let twice = comments.append(&unreadable(2)).await.unwrap();
    // The same key as one of them, and readable.
    let other = comments.append(&comment(2, 1)).await.unwrap();
    let dead = |told: Result<(), CacheError>| match told {
        Err(CacheError::DeadLettered { kind, .. }) => kind,
        told => format!("{told:?}"),
    };
    for (what, receipt) in [("alone", &bad), ("among others", &mixed), ("twice", &twice)] {
        assert_eq!(dead(receipt.persisted().await), "undecodable", "{what}");
    }
    good.persisted().await.unwrap();
    other.persisted().await.unwrap();
    assert_eq!(sink.rows().into_values().map(|comment| comment.id).collect::<Vec<_>>(), [1, 2, 3]);
    let letters = engine.dead_letters::<Comment>().unwrap();
    assert_eq!(letters.count().await.unwrap(), 2, "one for each payload");
    // A program that reads it writes the same entry: what became of the first one says nothing of this one.
    READS_ALL.set(true);
    comments.append(&unreadable(4)).await.unwrap().persisted().await.unwrap();
    assert_eq!(sink.row(&id(4)), Some(unreadable(4)));
    assert_eq!(letters.count().await.unwrap(), 1, "the letter of the other payload");
    assert_eq!(dead(twice.persisted().await), "undecodable");
    engine.shutdown(Duration::from_secs(3)).await.unwrap();
}

/// Whoever discards the letter has taken the entry away: it is in no sink.
#[tokio::test(start_paused = true)]
async fn an_entry_whose_letter_was_discarded_is_not_persisted() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let retry = RetryPolicy::new().initial(Duration::from_millis(10)).attempts(2);
    let engine = engine(&buffer, &sink, EntityOptions::new().retry(retry)).await;
    sink.refuse(|_| true);
    let appended = engine.appender::<Comment>().unwrap().append(&comment(1, 1)).await.unwrap();
    let letters = engine.dead_letters::<Comment>().unwrap();
    while letters.count().await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let found = letters.page(None, 10).await.unwrap().letters.pop().unwrap();
    assert!(letters.discard_at(found.partition, &found.id).await.unwrap());
    let told = appended.persisted_within(Duration::from_secs(60)).await;
    assert!(sink.rows().is_empty());
    assert!(told.is_err(), "{told:?}");
}
