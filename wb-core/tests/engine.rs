//! The engine over the embedded buffer and a scripted sink. The clock is paused: waits cost nothing and nothing is slow.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod player;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use wb_core::buffer::{Lookup, Registration, Rotation, Stamp};
use wb_core::testing::ScriptedSink;
use wb_core::{
    Batch, Buffer, BufferErrorKind, Cache, CacheError, CodecError, ConfigError, Engine, Entity, EntityOptions,
    ErrorKind, Fence, Format, Id, MemoryBuffer, Record, Report, RetryPolicy, Role, Scope, Severity, Sink, SinkError,
    Space, StartError, Write, partition_of,
};

use crate::player::Player;

const EVERY: Duration = Duration::from_secs(1);
const FOREVER: Duration = Duration::from_secs(3_600);

fn options() -> EntityOptions {
    EntityOptions::new().flush_every(EVERY).cache_ttl(Duration::from_secs(60))
}

fn player(id: u64, score: u64) -> Player {
    Player { id, score }
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}

/// An engine, its cache, its sink and its buffer.
struct Bench {
    buffer: MemoryBuffer,
    sink: ScriptedSink<Player>,
    engine: Engine,
    players: Cache<Player>,
}

impl Bench {
    async fn start(options: EntityOptions) -> Self {
        Self::over(MemoryBuffer::new(), ScriptedSink::new(), options, Role::Both).await
    }

    async fn over(buffer: MemoryBuffer, sink: ScriptedSink<Player>, options: EntityOptions, role: Role) -> Self {
        let builder = Engine::builder(buffer.clone()).role(role).entity::<Player>(sink.clone(), options);
        let engine = builder.start().await.unwrap();
        let players = engine.cache().unwrap();
        Self { buffer, sink, engine, players }
    }

    async fn put(&self, id: u64, score: u64) {
        self.players.put(&player(id, score)).await.unwrap();
    }

    async fn get(&self, id: u64) -> Option<u64> {
        self.players.get(&id).await.unwrap().map(|player| player.score)
    }

    async fn flush(&self) {
        assert!(self.players.flush_within(FOREVER).await.unwrap(), "the flush ends");
    }

    /// The buffer's side of the entity, as another program sees it.
    async fn space(&self) -> Arc<dyn Space> {
        let scope = Arc::new(Scope::new("wb", Player::NAME, 16));
        self.buffer.space(Registration::new(scope, Player::FORMAT)).await.unwrap()
    }

    async fn dead(&self) -> u64 {
        let space = self.space().await;
        join_all((0..16).map(|partition| space.status(partition))).await.into_iter().map(|s| s.unwrap().dead).sum()
    }

    fn scores(&self) -> BTreeMap<u64, u64> {
        self.sink.rows().into_values().map(|player| (player.id, player.score)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn p9_a_read_sees_the_write_in_every_state() {
    let bench = Bench::start(options()).await;
    assert_eq!(bench.get(1).await, None);
    bench.put(1, 10).await;
    assert_eq!(bench.get(1).await, Some(10), "open");
    bench.sink.hold();
    bench.sink.waiting(1).await;
    assert_eq!(bench.get(1).await, Some(10), "flushing");
    bench.put(1, 11).await;
    assert_eq!(bench.get(1).await, Some(11), "open and flushing");
    assert_eq!(bench.players.get_many(&[2, 1]).await.unwrap(), [None, Some(player(1, 11))]);
    bench.sink.release();
    bench.flush().await;
    let loads = bench.sink.loads();
    assert_eq!(bench.get(1).await, Some(11), "clean");
    assert_eq!(bench.sink.loads(), loads, "from its copy");
    sleep(Duration::from_secs(61)).await;
    assert_eq!(bench.get(1).await, Some(11), "expired");
    assert_eq!(bench.sink.loads(), loads + 1, "from the sink");
    assert_eq!(bench.get(1).await, Some(11));
    assert_eq!(bench.sink.loads(), loads + 1, "from its copy again");
}

#[tokio::test(start_paused = true)]
async fn p9_a_deleted_row_is_not_read_again() {
    let bench = Bench::start(options()).await;
    bench.sink.set_row(id(1), player(1, 10));
    assert_eq!(bench.get(1).await, Some(10));
    bench.players.delete(&1).await.unwrap();
    let loads = bench.sink.loads();
    assert_eq!(bench.get(1).await, None, "open");
    bench.sink.hold();
    bench.sink.waiting(1).await;
    assert_eq!(bench.get(1).await, None, "flushing");
    assert!(bench.sink.row(&id(1)).is_some(), "the row is still there");
    bench.sink.release();
    bench.flush().await;
    assert_eq!(bench.get(1).await, None, "remembered as gone");
    assert_eq!(bench.sink.loads(), loads, "and not looked for");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(bench.get(1).await, None, "gone");
}

#[tokio::test(start_paused = true)]
async fn p5_writes_of_one_key_in_an_interval_are_one_row() {
    let bench = Bench::start(options()).await;
    for score in 1..=1_000 {
        bench.put(1, score).await;
    }
    bench.flush().await;
    assert_eq!(bench.sink.history(&id(1)), [Some(player(1, 1_000))]);
    let stats = bench.engine.stats()[Player::NAME];
    assert_eq!((stats.puts, stats.rows_upserted), (1_000, 1));
}

#[tokio::test(start_paused = true)]
async fn p6_hot_and_cold_keys_reach_the_sink_in_time() {
    let bench = Bench::start(options()).await;
    bench.put(2, 1).await;
    let begun = Instant::now();
    let mut score = 0;
    while begun.elapsed() < 5 * EVERY {
        score += 1;
        bench.put(1, score).await;
        sleep(Duration::from_millis(10)).await;
        if begun.elapsed() > EVERY + Duration::from_millis(20) {
            assert_eq!(bench.scores().get(&2), Some(&1), "the cold key");
            let behind = score - bench.scores().get(&1).copied().unwrap_or(0);
            assert!(behind <= 102, "the hot key is {behind} writes of 10 ms behind");
        }
    }
    assert!(bench.sink.writes() <= 6, "one batch an interval");
}

/// On one thread, and on a clock that runs: a loop that only writes is never forced to wait by a buffer in memory.
#[tokio::test]
async fn p6_a_loop_of_writes_does_not_starve_the_flusher() {
    let bench = Bench::start(options().flush_every(Duration::from_millis(1))).await;
    let begun = std::time::Instant::now();
    while bench.sink.writes() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing was flushed while others wrote");
        bench.put(1, 1).await;
    }
    assert_eq!(bench.engine.shutdown(FOREVER).await.unwrap().remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn many_dirty_keys_are_flushed_before_the_interval_ends() {
    let bench = Bench::start(options().flush_every(FOREVER).flush_at(10)).await;
    for n in 0..9 {
        bench.put(n, 1).await;
        bench.put(n, 2).await;
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.sink.writes(), 0, "nine keys wait");
    bench.put(9, 1).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.scores().len(), 10, "ten do not");
}

#[tokio::test(start_paused = true)]
async fn batches_are_bounded_by_rows_and_gather_over_partitions() {
    let bench = Bench::start(options().max_batch(1_000)).await;
    let players: Vec<Player> = (0..1_000).map(|n| player(n, 1)).collect();
    bench.players.put_many(&players).await.unwrap();
    bench.flush().await;
    assert_eq!(bench.scores().len(), 1_000);
    assert!(bench.sink.writes() <= 2, "{} batches for 1 000 rows of 16 partitions", bench.sink.writes());
    let players: Vec<Player> = (0..2_500).map(|n| player(n, 2)).collect();
    bench.players.put_many(&players).await.unwrap();
    bench.flush().await;
    assert!(bench.sink.log().iter().all(|entry| entry.records.len() <= 1_000));
    assert!(bench.sink.writes() <= 6, "{} batches for 2 500 rows more", bench.sink.writes());
    assert!(bench.scores().values().all(|score| *score == 2));
}

/// A record of some size.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Blob {
    id: u64,
    text: String,
}

impl Entity for Blob {
    type Key = u64;
    const NAME: &'static str = "blob";
    const FORMAT: Format = Format::Json;

    fn key(&self) -> u64 {
        self.id
    }

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        // A value whose encoding is empty, as a mistake in a codec would make it.
        if self.text == "empty" { Ok(Vec::new()) } else { wb_core::codec::encode(Self::FORMAT, self) }
    }

    fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        let blob: Self = wb_core::codec::decode(Self::FORMAT, payload)?;
        assert_ne!(blob.text, "panic", "a struct whose own code panics");
        Ok(blob)
    }
}

#[tokio::test(start_paused = true)]
async fn batches_are_bounded_by_bytes() {
    let sink = ScriptedSink::<Blob>::new();
    let options = options().max_batch_bytes(10_000).max_record_bytes(100_000);
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Blob>(sink.clone(), options).start().await.unwrap();
    let blobs = engine.cache::<Blob>().unwrap();
    for id in 0..100 {
        blobs.put(&Blob { id, text: "x".repeat(1_000) }).await.unwrap();
    }
    blobs.put(&Blob { id: 100, text: "x".repeat(50_000) }).await.unwrap();
    assert!(blobs.flush_within(FOREVER).await.unwrap());
    assert_eq!(sink.rows().len(), 101);
    for entry in sink.log() {
        let bytes: usize = entry.records.values().flatten().map(|blob| blob.encode().unwrap().len()).sum();
        assert!(bytes <= 10_000 || entry.records.len() == 1, "{} records of {bytes} bytes", entry.records.len());
    }
}

#[tokio::test(start_paused = true)]
async fn p8_an_outage_loses_nothing_and_dead_letters_nothing() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Misconfigured] {
        let bench = Bench::start(options()).await;
        bench.put(1, 1).await;
        bench.sink.fail_always(kind);
        for n in 0..100 {
            bench.put(n, 2).await;
            sleep(Duration::from_secs(60)).await;
        }
        assert!(bench.sink.rows().is_empty());
        assert_eq!(bench.get(1).await, Some(2));
        assert_eq!(bench.dead().await, 0, "{kind}");
        assert!(bench.sink.writes() < 1_000, "{kind}: {} writes in 100 minutes", bench.sink.writes());
        bench.sink.recover();
        bench.flush().await;
        assert_eq!(bench.scores().len(), 100, "{kind}");
        assert_eq!(bench.dead().await, 0, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_tried_again_at_once() {
    let bench = Bench::start(options()).await;
    bench.put(1, 1).await;
    bench.sink.fail_next(ErrorKind::Transient);
    bench.sink.lose_next_reply(ErrorKind::Transient);
    let begun = Instant::now();
    bench.flush().await;
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!(bench.scores(), BTreeMap::from([(1, 1)]));
    assert_eq!(bench.engine.stats()[Player::NAME].retries.transient, 2);
}

#[tokio::test(start_paused = true)]
async fn p8_one_bad_record_never_blocks_others() {
    for named in [true, false] {
        let bench = Bench::start(options().retry(RetryPolicy::new().attempts(3))).await;
        let bad = |other: &Id| *other == id(13);
        if named {
            bench.sink.refuse(bad);
        } else {
            bench.sink.refuse_whole(ErrorKind::Rejected, bad);
        }
        bench.players.put_many(&(0..100).map(|n| player(n, 1)).collect::<Vec<_>>()).await.unwrap();
        bench.flush().await;
        assert_eq!(bench.scores().len(), 99, "the others land at the first try");
        assert_eq!(bench.dead().await, 0, "the bad one has tries left");
        assert_eq!(bench.get(13).await, Some(1), "and is readable");
        sleep(4 * EVERY).await;
        assert_eq!(bench.dead().await, 1);
        let letter = bench.space().await.letter(partition_of(&id(13), 16), &id(13)).await.unwrap().unwrap();
        assert_eq!((letter.attempts, letter.kind.as_str()), (3, "rejected"));
        assert_eq!(Player::decode(&letter.payload).unwrap(), player(13, 1));
        sleep(Duration::from_secs(3_600)).await;
        assert_eq!(bench.get(13).await, Some(1), "still readable");
        assert_eq!(bench.engine.stats()[Player::NAME].dead_letters, 1);

        bench.sink.accept();
        bench.put(13, 2).await;
        bench.flush().await;
        assert_eq!(bench.scores().get(&13), Some(&2), "a newer good write");
        assert_eq!(bench.dead().await, 0, "clears the letter");
    }
}

#[tokio::test(start_paused = true)]
async fn p12_what_does_not_decode_is_kept_as_a_dead_letter() {
    let bench = Bench::start(options()).await;
    let space = bench.space().await;
    let raw = |n: u64, payload: &'static [u8]| Write {
        partition: partition_of(&id(n), 16),
        id: id(n),
        record: Record::from_bytes(payload),
    };
    let elsewhere = (partition_of(&id(4), 16) + 1) % 16;
    let no_key = Id::from_bytes("no number").unwrap();
    space
        .put(vec![
            raw(1, b"{\"id\":1}"),
            raw(2, b"\xff\x00"),
            raw(3, b"{\"id\":7,\"score\":1}"),
            Write { partition: elsewhere, ..raw(4, b"{\"id\":4,\"score\":1}") },
            Write { partition: partition_of(&no_key, 16), id: no_key.clone(), record: Record::tombstone() },
        ])
        .await
        .unwrap();
    bench.put(5, 1).await;
    bench.flush().await;
    assert_eq!(bench.scores(), BTreeMap::from([(5, 1)]), "the others go on");
    assert_eq!(bench.dead().await, 5);
    for (partition, id, kind, payload) in [
        (partition_of(&id(1), 16), id(1), "undecodable", &b"{\"id\":1}"[..]),
        (partition_of(&id(2), 16), id(2), "undecodable", b"\xff\x00"),
        (partition_of(&id(3), 16), id(3), "misplaced", b"{\"id\":7,\"score\":1}"),
        (elsewhere, id(4), "misplaced", b"{\"id\":4,\"score\":1}"),
        (partition_of(&no_key, 16), no_key.clone(), "misplaced", b""),
    ] {
        let letter = space.letter(partition, &id).await.unwrap().unwrap();
        assert_eq!((letter.kind.as_str(), letter.payload.as_slice()), (kind, payload), "{id}");
    }
    assert!(matches!(bench.players.get(&1).await, Err(CacheError::Codec { .. })), "not taken for absent");
    bench.put(1, 2).await;
    bench.flush().await;
    assert_eq!((bench.get(1).await, bench.dead().await), (Some(2), 4));
}

#[tokio::test(start_paused = true)]
async fn p12_a_payload_that_makes_the_struct_panic_is_a_dead_letter() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::<Blob>::new());
    let engine = Engine::builder(buffer.clone()).entity::<Blob>(sink.clone(), options()).start().await.unwrap();
    let blobs = engine.cache::<Blob>().unwrap();
    blobs.put(&Blob { id: 1, text: "panic".into() }).await.unwrap();
    blobs.put(&Blob { id: 2, text: "good".into() }).await.unwrap();
    assert!(blobs.flush_within(FOREVER).await.unwrap());
    assert_eq!(sink.rows().into_keys().collect::<Vec<_>>(), [id(2)]);
    assert_eq!(engine.stats()["blob"].dead_letters, 1);
}

/// What [`Faulty`] does with the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Panic,
    PanicWhileFencing,
}

/// A sink that panics so many times.
struct Faulty {
    inner: ScriptedSink<Player>,
    fault: Fault,
    left: AtomicU32,
}

impl Faulty {
    fn strike(&self, fault: Fault) {
        let hit = fault == self.fault
            && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        assert!(!hit, "scripted panic");
    }
}

#[async_trait]
impl Sink<Player> for Faulty {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        self.inner.open(scope).await
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        self.strike(Fault::PanicWhileFencing);
        Sink::<Player>::fence(&self.inner, scope, partition).await
    }

    async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
        self.strike(Fault::Panic);
        self.inner.write(batch).await
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
        self.inner.load(keys).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicking_sink_is_contained() {
    for fault in [Fault::Panic, Fault::PanicWhileFencing] {
        let inner = ScriptedSink::new();
        let sink = Faulty { inner: inner.clone(), fault, left: AtomicU32::new(20) };
        let engine = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink, options()).start().await.unwrap();
        let players = engine.cache::<Player>().unwrap();
        players.put_many(&(0..100).map(|n| player(n, 1)).collect::<Vec<_>>()).await.unwrap();
        assert!(players.flush_within(FOREVER).await.unwrap(), "{fault:?}");
        assert_eq!(inner.rows().len(), 100, "{fault:?}");
        assert_eq!(engine.stats()[Player::NAME].dead_letters, 0, "{fault:?}");
        assert_eq!(engine.shutdown(EVERY).await.unwrap().remaining, 0, "{fault:?}");
    }
}

/// A sink whose first write panics while its second hangs.
struct HalfPanics {
    inner: ScriptedSink<Player>,
    writes: AtomicU32,
    dropped: Arc<AtomicU32>,
}

#[async_trait]
impl Sink<Player> for HalfPanics {
    async fn open(&self, _: &Scope) -> Result<(), SinkError> {
        Ok(())
    }

    async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
        /// Notices a write that is dropped before it is through.
        struct UnderWay<'a>(&'a AtomicU32);
        impl Drop for UnderWay<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let first = self.writes.fetch_add(1, Ordering::Relaxed) == 0;
        if first {
            self.inner.waiting(1).await;
        }
        assert!(!first, "scripted panic");
        let under_way = UnderWay(&self.dropped);
        let report = self.inner.write(batch).await;
        std::mem::forget(under_way);
        report
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
        self.inner.load(keys).await
    }
}

#[tokio::test(start_paused = true)]
async fn p3_a_batch_that_fails_does_not_drop_another_that_is_on_its_way() {
    let (inner, dropped) = (ScriptedSink::new(), Arc::new(AtomicU32::new(0)));
    let sink = HalfPanics { inner: inner.clone(), writes: AtomicU32::new(0), dropped: dropped.clone() };
    let options = options().max_batch(1).flush_concurrency(2);
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink, options).start().await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    players.put_many(&[player(1, 1), player(2, 1), player(3, 1)]).await.unwrap();
    inner.hold();
    sleep(10 * EVERY).await;
    assert_eq!(dropped.load(Ordering::Relaxed), 0, "what it does in the database would go on unseen");
    inner.release();
    assert!(players.flush_within(FOREVER).await.unwrap());
    assert_eq!(inner.rows().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn p11_shutdown_drains() {
    let bench = Bench::start(options().flush_every(Duration::from_secs(600))).await;
    bench.players.put_many(&(0..100).map(|n| player(n, 1)).collect::<Vec<_>>()).await.unwrap();
    let begun = Instant::now();
    let drained = bench.engine.shutdown(Duration::MAX).await.unwrap();
    assert_eq!((drained.remaining, drained.by_entity[Player::NAME].remaining), (0, 0));
    assert!(begun.elapsed() < EVERY, "at once: {:?}", begun.elapsed());
    assert_eq!(bench.sink.rows().len(), 100);
    assert!(bench.sink.is_closed());
    assert!(matches!(bench.players.put(&player(1, 2)).await, Err(CacheError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn p11_shutdown_at_a_dead_sink_ends_at_the_deadline_and_the_next_worker_goes_on() {
    for hanging in [true, false] {
        let bench = Bench::start(options()).await;
        if hanging {
            bench.sink.hold();
        } else {
            bench.sink.fail_always(ErrorKind::Unavailable);
        }
        bench.players.put_many(&(0..100).map(|n| player(n, 1)).collect::<Vec<_>>()).await.unwrap();
        sleep(2 * EVERY).await;
        bench.players.put_many(&(100..107).map(|n| player(n, 1)).collect::<Vec<_>>()).await.unwrap();
        let begun = Instant::now();
        let drained = timeout(FOREVER, bench.engine.shutdown(5 * EVERY)).await.unwrap().unwrap();
        assert_eq!(drained.remaining, 107);
        assert!((5 * EVERY..6 * EVERY).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert!(bench.sink.rows().is_empty());

        bench.sink.release();
        bench.sink.recover();
        let next = Bench::over(bench.buffer, bench.sink, options(), Role::Both).await;
        assert_eq!(next.get(5).await, Some(1));
        let begun = Instant::now();
        next.flush().await;
        assert!(begun.elapsed() < EVERY, "its partitions were given up: {:?}", begun.elapsed());
        assert_eq!(next.scores().len(), 107);
    }
}

#[tokio::test(start_paused = true)]
async fn p11_shutdown_counts_what_could_not_even_be_fenced() {
    /// Opens, and is gone when the partitions are to be fenced.
    struct Gone(ScriptedSink<Player>);

    #[async_trait]
    impl Sink<Player> for Gone {
        async fn open(&self, _: &Scope) -> Result<(), SinkError> {
            Ok(())
        }
        async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
            Sink::<Player>::fence(&self.0, scope, partition).await
        }
        async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
            self.0.write(batch).await
        }
        async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
            self.0.load(keys).await
        }
    }

    let sink = ScriptedSink::new();
    sink.fail_always(ErrorKind::Unavailable);
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(Gone(sink.clone()), options());
    let engine = builder.start().await.unwrap();
    engine.cache::<Player>().unwrap().put(&player(1, 1)).await.unwrap();
    assert_eq!(engine.shutdown(3 * EVERY).await.unwrap().remaining, 1);
}

#[tokio::test(start_paused = true)]
async fn p11_writes_while_shutting_down_are_refused_or_flushed() {
    let bench = Bench::start(options()).await;
    let players = bench.players.clone();
    let writer = tokio::spawn(async move {
        let mut written = Vec::new();
        for n in 0.. {
            match players.put(&player(n, 1)).await {
                Ok(_) => written.push(n),
                Err(CacheError::Closed) => return written,
                Err(other) => panic!("{other}"),
            }
            tokio::task::yield_now().await;
        }
        written
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.engine.shutdown(FOREVER).await.unwrap().remaining, 0);
    let written = writer.await.unwrap();
    assert!(!written.is_empty());
    assert_eq!(bench.sink.rows().len(), written.len());
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_although_others_go_on_writing() {
    let bench = Bench::start(options().flush_every(Duration::from_secs(600))).await;
    let writers: Vec<_> = (0..4)
        .map(|lane| {
            let players = bench.players.clone();
            tokio::spawn(async move {
                for score in 0.. {
                    if players.put(&player(lane, score)).await.is_err() {
                        return;
                    }
                    sleep(Duration::from_micros(500)).await;
                }
            })
        })
        .collect();
    for n in 100..110 {
        bench.put(n, 1).await;
        let begun = Instant::now();
        bench.flush().await;
        assert!(begun.elapsed() < EVERY, "{:?}", begun.elapsed());
        assert_eq!(bench.scores().get(&n), Some(&1), "what was acknowledged before is in the sink");
    }
    bench.engine.shutdown(FOREVER).await.unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_engine_writes_and_another_flushes() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let writer = Bench::over(buffer.clone(), sink.clone(), options(), Role::Writer).await;
    writer.players.put_many(&(0..100).map(|n| player(n, 1)).collect::<Vec<_>>()).await.unwrap();
    assert!(!writer.players.flush_within(10 * EVERY).await.unwrap(), "nobody flushes");
    assert_eq!(sink.writes(), 0);
    let worker = Bench::over(buffer, sink.clone(), options(), Role::Worker).await;
    writer.flush().await;
    assert_eq!(sink.rows().len(), 100);
    assert_eq!(worker.get(7).await, Some(1), "each reads the other's writes");
    writer.put(7, 2).await;
    assert_eq!(worker.get(7).await, Some(2));
    let drained = writer.engine.shutdown(EVERY).await.unwrap();
    assert_eq!(drained.remaining, 0, "it owns nothing");
    assert_eq!(worker.engine.shutdown(EVERY).await.unwrap().remaining, 0, "the worker flushes it");
    assert_eq!(sink.row(&id(7)), Some(player(7, 2)));
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_partitions_of_another_worker_waits_without_spinning() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let owner = Bench::over(buffer.clone(), sink.clone(), options(), Role::Both).await;
    let idle = Bench::over(buffer, sink.clone(), options(), Role::Both).await;
    idle.put(1, 1).await;
    idle.flush().await;
    assert_eq!(owner.scores(), BTreeMap::from([(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn p3_a_worker_that_lost_its_lease_in_an_outage_writes_nothing() {
    // A sink that does not fence: the lease is all there is.
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::without_fencing());
    let stale = Bench::over(buffer.clone(), sink.clone(), options(), Role::Both).await;
    stale.put(1, 1).await;
    sink.fail_always(ErrorKind::Unavailable);
    sleep(2 * EVERY).await;
    // Its lease ends while it waits: another owner has flushed that epoch and a newer one.
    let space = stale.space().await;
    let all: Vec<u16> = (0..16).collect();
    let partition = partition_of(&id(1), 16);
    steal(&*space, &all).await;
    let wb_core::buffer::Rotation::Epoch(epoch) = space.rotate(partition, "thief", Stamp::default()).await.unwrap()
    else {
        panic!("nothing to flush")
    };
    let step = wb_core::buffer::Step { partition, owner: "thief", epoch, stamp: Stamp::default() };
    let clean = wb_core::buffer::Clean { ttl: EVERY, negative_ttl: EVERY };
    space.ack(&step, &[id(1)], clean).await.unwrap();
    sink.set_row(id(1), player(1, 2));
    sleep(Duration::from_secs(5)).await;
    sink.recover();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(sink.row(&id(1)), Some(player(1, 2)), "the newer state stays");
}

#[tokio::test(start_paused = true)]
async fn p3_what_was_claimed_before_a_lease_was_lost_is_not_flushed_after_it_is_regained() {
    // Two records in each of two partitions, three in a batch: while the first batch is on its way, one record is
    // claimed and waits.
    let bench = Bench::start(options().partitions(2).max_batch(3).flush_concurrency(1)).await;
    let scope = Arc::new(Scope::new("wb", Player::NAME, 2));
    let space = bench.buffer.space(Registration::new(scope.clone(), Player::FORMAT)).await.unwrap();
    let of = |partition| (0..100).filter(move |n| partition_of(&id(*n), 2) == partition).take(2).collect::<Vec<u64>>();
    let keys = [of(0), of(1)].concat();
    bench.players.put_many(&keys.iter().map(|n| player(*n, 1)).collect::<Vec<_>>()).await.unwrap();
    bench.sink.hold();
    bench.sink.waiting(1).await;
    // Another owner flushes all of them, and newer states.
    steal(&*space, &[0, 1]).await;
    for partition in [0, 1] {
        Sink::<Player>::fence(&bench.sink, &scope, partition).await.unwrap();
        // It goes on with the epoch that it found.
        assert_eq!(space.rotate(partition, "thief", Stamp::default()).await.unwrap(), Rotation::Epoch(1));
        let step = wb_core::buffer::Step { partition, owner: "thief", epoch: 1, stamp: Stamp::default() };
        let clean = wb_core::buffer::Clean { ttl: EVERY, negative_ttl: EVERY };
        space.ack(&step, &of(partition).into_iter().map(id).collect::<Vec<_>>(), clean).await.unwrap();
    }
    for n in &keys {
        bench.sink.set_row(id(*n), player(*n, 2));
    }
    let newer: BTreeMap<u64, u64> = keys.iter().map(|n| (*n, 2)).collect();
    // The worker notices, and later gets the partitions back with new fences.
    sleep(Duration::from_secs(5)).await;
    space.release(&[0, 1], "thief").await.unwrap();
    sleep(Duration::from_secs(5)).await;
    bench.sink.release();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.scores(), newer, "the newer states stay");
    // And goes on with its work.
    bench.put(keys[0], 3).await;
    bench.flush().await;
    assert_eq!(bench.scores().get(&keys[0]), Some(&3));
}

/// Takes all leases away, as if the worker's process had been paused for longer than they live.
async fn steal(space: &dyn Space, all: &[u16]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while space.take(all, "thief", FOREVER).await.unwrap().iter().any(|taken| !taken) {
        assert!(Instant::now() < deadline, "the lease never ends");
        tokio::time::advance(Duration::from_secs(11)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_reads_of_a_cold_key_are_one_load() {
    for cache_ttl in [Duration::from_secs(60), Duration::ZERO] {
        let bench = Bench::start(options().cache_ttl(cache_ttl)).await;
        bench.sink.set_row(id(1), player(1, 7));
        // Loads of the scripted sink do not wait, so the readers meet at a sink that does.
        let slow = Slow { inner: bench.sink.clone() };
        let engine = Engine::builder(bench.buffer.clone())
            .role(Role::Writer)
            .entity::<Player>(slow, options().cache_ttl(cache_ttl))
            .start()
            .await
            .unwrap();
        let players = engine.cache::<Player>().unwrap();
        let found = join_all((0..100).map(|_| players.get(&1))).await;
        assert!(found.into_iter().all(|found| found.unwrap() == Some(player(1, 7))));
        assert_eq!(bench.sink.loads(), 1);
    }
}

/// A sink whose loads read at once and answer late.
struct Slow {
    inner: ScriptedSink<Player>,
}

#[async_trait]
impl Sink<Player> for Slow {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        self.inner.open(scope).await
    }

    async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
        self.inner.write(batch).await
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
        let rows = self.inner.load(keys).await;
        sleep(Duration::from_secs(3)).await;
        rows
    }
}

#[tokio::test(start_paused = true)]
async fn p9_a_load_that_is_overtaken_is_never_cached() {
    for (cache_ttl, many) in [(60, false), (60, true), (0, false), (0, true)] {
        let ttl = Duration::from_secs(cache_ttl);
        let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
        sink.set_row(id(1), player(1, 1));
        let slow = Slow { inner: sink.clone() };
        let engine =
            Engine::builder(buffer.clone()).entity::<Player>(slow, options().cache_ttl(ttl)).start().await.unwrap();
        let players = engine.cache::<Player>().unwrap();
        let early = tokio::spawn({
            let players = players.clone();
            async move { if many { players.get_many(&[1, 2]).await.map(|_| ()) } else { players.get(&1).await.map(|_| ()) } }
        });
        sleep(Duration::from_millis(10)).await;
        assert_eq!(sink.loads(), 1, "the old row is on its way");
        players.put(&player(1, 2)).await.unwrap();
        assert!(players.flush_within(FOREVER).await.unwrap());
        assert_eq!(players.get(&1).await.unwrap(), Some(player(1, 2)), "a later reader does not join the early load");
        early.await.unwrap().unwrap();
        assert_eq!(players.get(&1).await.unwrap(), Some(player(1, 2)), "and never sees its row");
    }
}

#[tokio::test(start_paused = true)]
async fn p12_bad_input_is_refused_and_nothing_is_stored() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::<Blob>::new());
    let options = options().max_record_bytes(100);
    let engine = Engine::builder(buffer.clone()).entity::<Blob>(sink.clone(), options).start().await.unwrap();
    let blobs = engine.cache::<Blob>().unwrap();
    let (good, large) = (Blob { id: 1, text: "x".into() }, Blob { id: 2, text: "x".repeat(100) });
    let empty = Blob { id: 3, text: "empty".into() };
    assert!(matches!(blobs.put(&large).await, Err(CacheError::TooLarge { limit: 100, .. })));
    assert!(matches!(blobs.put_many([&good, &large]).await, Err(CacheError::TooLarge { .. })));
    assert!(matches!(blobs.put(&empty).await, Err(CacheError::Empty { .. })));
    blobs.put_many([]).await.unwrap();
    let scope = Arc::new(Scope::new("wb", Blob::NAME, 16));
    let space = buffer.space(Registration::new(scope, Blob::FORMAT)).await.unwrap();
    for n in 1..=3 {
        let found = space.get(partition_of(&id(n), 16), &[id(n)]).await.unwrap();
        assert_eq!(found, [Lookup::Absent], "{n}");
    }
    assert!(engine.cache::<Player>().is_err());
    engine.shutdown(EVERY).await.unwrap();
    assert_eq!(sink.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn p12_an_empty_key_is_refused() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Named {
        name: String,
    }
    impl Entity for Named {
        type Key = String;
        const NAME: &'static str = "named";
        const FORMAT: Format = Format::MessagePack;
        fn key(&self) -> String {
            self.name.clone()
        }
        fn encode(&self) -> Result<Vec<u8>, CodecError> {
            wb_core::codec::encode(Self::FORMAT, self)
        }
        fn decode(payload: &[u8]) -> Result<Self, CodecError> {
            wb_core::codec::decode(Self::FORMAT, payload)
        }
    }
    let sink = ScriptedSink::<Named>::new();
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Named>(sink.clone(), options()).start().await.unwrap();
    let cache = engine.cache::<Named>().unwrap();
    let nobody = Named { name: String::new() };
    assert!(matches!(cache.put(&nobody).await, Err(CacheError::Key(_))));
    assert!(matches!(cache.delete(&String::new()).await, Err(CacheError::Key(_))));
    assert!(matches!(cache.get(&String::new()).await, Err(CacheError::Key(_))));
    engine.shutdown(EVERY).await.unwrap();
    assert_eq!((sink.writes(), sink.loads()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn p12_senseless_settings_are_refused_at_start() {
    let sink = ScriptedSink::<Player>::new;
    let start = async |engine: wb_core::EngineBuilder| match engine.start().await {
        Err(StartError::Config(error)) => error,
        other => panic!("{other:?}"),
    };
    let engine = || Engine::builder(MemoryBuffer::new());
    assert_eq!(start(engine()).await, ConfigError::NoEntity);
    for namespace in ["", "a b", "a:b", "{a}", "ключ", &"x".repeat(65)] {
        let built = engine().namespace(namespace).entity::<Player>(sink(), options());
        assert_eq!(start(built).await, ConfigError::Namespace { namespace: namespace.to_owned() });
    }
    let twice = engine().entity::<Player>(sink(), options()).entity::<Player>(sink(), options());
    assert_eq!(start(twice).await, ConfigError::DuplicateEntity { entity: Player::NAME });
    for lease in [Duration::ZERO, Duration::from_millis(99), Duration::from_secs(601), Duration::MAX] {
        assert_eq!(start(engine().lease(lease).entity::<Player>(sink(), options())).await, ConfigError::Lease);
    }
    for bad in [
        options().partitions(0),
        options().partitions(4_097),
        options().flush_every(Duration::ZERO),
        options().flush_every(Duration::MAX),
        options().flush_at(0),
        options().max_batch(0),
        options().max_batch_bytes(0),
        options().flush_concurrency(0),
        options().max_record_bytes(0),
        options().max_record_bytes(usize::MAX),
    ] {
        let error = start(engine().entity::<Player>(sink(), bad.clone())).await;
        assert!(matches!(error, ConfigError::Option { entity: "player", .. }), "{bad:?}: {error:?}");
    }
    let retry = RetryPolicy::new().attempts(0);
    let error = start(engine().entity::<Player>(sink(), options().retry(retry))).await;
    assert!(matches!(error, ConfigError::Retry { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_start_keeps_no_partition() {
    let buffer = MemoryBuffer::new();
    let (good, dead) = (ScriptedSink::<Player>::new(), ScriptedSink::<Blob>::new());
    dead.fail_always(ErrorKind::Misconfigured);
    let failed = Engine::builder(buffer.clone())
        .entity::<Player>(good.clone(), options())
        .entity::<Blob>(dead, options())
        .start()
        .await;
    assert!(matches!(failed, Err(StartError::Sink { entity: "blob", .. })));
    let bench = Bench::over(buffer, good, options(), Role::Both).await;
    bench.put(1, 1).await;
    let begun = Instant::now();
    bench.flush().await;
    assert!(begun.elapsed() < EVERY, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn another_topology_is_refused_at_start_while_anything_is_dirty_and_there_is_no_time() {
    let bench = Bench::start(options().flush_every(FOREVER)).await;
    bench.put(1, 1).await;
    let other = || Engine::builder(bench.buffer.clone()).entity::<Player>(bench.sink.clone(), options().partitions(8));
    let found = other().topology_change_within(Duration::ZERO).doctor().await;
    assert!(
        found.iter().any(|found| found.severity == Severity::Fatal && found.text.contains("1 records")),
        "{found:?}"
    );
    match other().topology_change_within(Duration::ZERO).start().await {
        Err(StartError::Buffer { entity: "player", source }) => assert_eq!(source.kind(), BufferErrorKind::Topology),
        other => panic!("{other:?}"),
    }
    bench.put(1, 2).await;
    bench.flush().await;
    assert!(other().topology_change_within(Duration::ZERO).start().await.is_ok());
}
