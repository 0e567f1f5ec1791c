//! Dead letters in Redis, and epochs that vanish: what scripts and other programs can do to them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use write_behind::buffer::{DeadLetter, Done, Lookup, Registration, Rotation, Stamp, Step};
use write_behind::testing::ScriptedSink;
use write_behind::{
    Buffer, BufferErrorKind, CacheError, CodecError, Engine, Entity, EntityOptions, Format, Id, Record, RedisBuffer,
    Replay, Role, Scope, Space, Write, codec, partition_of,
};
use write_behind_tests::{eventually, redis_url, refused, unique};

const OWNER: &str = "worker";
const LONG: Duration = Duration::from_secs(60);

async fn space(buffer: &RedisBuffer, namespace: &str) -> Arc<dyn Space> {
    let scope = Arc::new(Scope::new(namespace, "specimen", 1));
    let space = buffer.space(Registration::new(scope, Format::Json)).await.unwrap();
    space.take(&[0], OWNER, LONG).await.unwrap();
    space
}

async fn closed(space: &dyn Space, id: &Id, record: &Record) -> u64 {
    space.put(vec![Write { partition: 0, id: id.clone(), record: record.clone() }]).await.unwrap();
    match space.rotate(0, OWNER, Stamp::default()).await.unwrap() {
        Rotation::Epoch(epoch) => epoch,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn p1_a_replay_or_discard_that_cannot_finish_takes_nothing_out() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("letters");
    let buffer = RedisBuffer::connect(&url).await.unwrap();
    let space = space(&buffer, &namespace).await;
    let mut other = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let (id, record) = (Id::of(&1_u64).unwrap(), Record::from_bytes("1"));
    let letter = DeadLetter::new(&record, "rejected", "no".into(), 1, 1, 1);
    let epoch = closed(&*space, &id, &record).await;
    let step = Step { partition: 0, owner: OWNER, epoch, stamp: Stamp::default() };
    assert_eq!(space.bury(&step, &[(id.clone(), letter.clone())]).await.unwrap(), Done::Epoch);
    for hash in ["open", "flushing", "attempts"] {
        let key = format!("{namespace}:{{specimen:00/1}}:{hash}");
        redis::cmd("SET").arg(&key).arg("foreign").exec_async(&mut other).await.unwrap();
        let ids = std::slice::from_ref(&id);
        let errors = [refused(space.replay(0, ids).await), refused(space.discard(0, ids).await)];
        assert!(errors.iter().all(|error| error.kind() == BufferErrorKind::Misconfigured), "{hash}: {errors:?}");
        redis::cmd("DEL").arg(&key).exec_async(&mut other).await.unwrap();
        assert_eq!(space.letter(0, &id).await.unwrap().as_ref(), Some(&letter), "{hash}");
    }
    assert_eq!(space.replay(0, std::slice::from_ref(&id)).await.unwrap().outcomes, [Replay::Again]);
    assert_eq!(space.get(0, &[id]).await.unwrap(), [Lookup::Dirty(record)]);
    buffer.close().await;
}

#[tokio::test]
async fn an_epoch_that_is_deleted_under_its_worker_is_gone_and_not_flushed() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("letters");
    let buffer = RedisBuffer::connect(&url).await.unwrap();
    let space = space(&buffer, &namespace).await;
    let mut other = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let (id, record) = (Id::of(&1_u64).unwrap(), Record::from_bytes("1"));
    let epoch = closed(&*space, &id, &record).await;
    redis::cmd("DEL").arg(format!("{namespace}:{{specimen:00/1}}:flushing")).exec_async(&mut other).await.unwrap();
    let step = Step { partition: 0, owner: OWNER, epoch, stamp: Stamp::default() };
    let clean = write_behind::buffer::Clean { ttl: LONG, negative_ttl: LONG };
    let moved = space.ack(&step, std::slice::from_ref(&id), clean).await.unwrap();
    assert_eq!((moved.done, moved.records), (Done::Gone, 0));
    assert_eq!(space.status(0).await.unwrap().flushed_epoch, 0);
    assert_eq!(space.get(0, &[id]).await.unwrap(), [Lookup::Absent], "no copy of what was not there");
    buffer.close().await;
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Specimen {
    id: u64,
}

impl Entity for Specimen {
    type Key = u64;
    const NAME: &'static str = "specimen";
    const FORMAT: Format = Format::Json;

    fn key(&self) -> u64 {
        self.id
    }

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(Self::FORMAT, self)
    }

    fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Self::FORMAT, payload)
    }
}

/// A writer's engine lists, replays and discards what another process's worker has buried, whatever other programs have
/// left among the letters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_letters_are_worked_off_from_a_writer() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("letters");
    let options = || EntityOptions::new().flush_every(Duration::from_millis(20));
    let sink = ScriptedSink::<Specimen>::new();
    let engine = async |role| {
        let buffer = RedisBuffer::connect(&url).await.unwrap();
        let builder = Engine::builder(buffer).namespace(&namespace).role(role);
        builder.entity::<Specimen>(sink.clone(), options()).start().await.unwrap()
    };
    let (writer, worker) = (engine(Role::Writer).await, engine(Role::Worker).await);
    let specimens = writer.cache::<Specimen>().unwrap();
    let letters = writer.dead_letters::<Specimen>().unwrap();
    sink.refuse(|_| true);
    specimens.put_many(&(0..300).map(|id| Specimen { id }).collect::<Vec<_>>()).await.unwrap();
    // A foreign program writes under no key, and into a partition that is not the id's; and leaves rubbish as a letter.
    let mut other = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let key = |partition: u16, what: &str| format!("{namespace}:{{specimen:{partition:02}/16}}:{what}");
    let stray = (partition_of(&Id::of(&7_u64).unwrap(), 16) + 1) % 16;
    for (key, id, value) in [
        (key(3, "open"), "no number", "{}"),
        (key(stray, "open"), "7", "{\"id\":7}"),
        (key(5, "dead"), "rubbish", "not a letter"),
    ] {
        redis::cmd("HSET").arg(key).arg(id).arg(value).exec_async(&mut other).await.unwrap();
    }
    let all = eventually("all are dead", Duration::from_secs(60), async || {
        (letters.count().await.unwrap() == 303).then_some(())
    });
    all.await;

    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = letters.page(cursor, 20).await.unwrap();
        assert!(page.letters.len() < 100, "{} in a page", page.letters.len());
        seen.extend(page.letters);
        // As it goes through a URL.
        cursor = page.next.map(|next| next.to_string().parse().unwrap());
        if cursor.is_none() {
            break;
        }
    }
    seen.sort_by(|a, b| (a.partition, &a.id).cmp(&(b.partition, &b.id)));
    seen.dedup_by(|a, b| (a.partition, &a.id) == (b.partition, &b.id));
    assert_eq!(seen.len(), 303);
    let strange: Vec<_> = seen.iter().filter(|letter| letter.letter.kind != "rejected").collect();
    assert_eq!(strange.len(), 3);
    for letter in strange {
        let found = letters.get_at(letter.partition, &letter.id).await;
        match letter.letter.kind.as_str() {
            "corrupt" => {
                assert!(matches!(found, Err(CacheError::Buffer(_))), "{found:?}");
                assert_eq!(letter.letter.payload, b"not a letter");
            }
            "misplaced" | "undecodable" => assert_eq!(found.unwrap().as_ref(), Some(&letter.letter)),
            other => panic!("{other}"),
        }
        assert!(letters.discard_at(letter.partition, &letter.id).await.unwrap());
    }

    assert_eq!(letters.get(&7).await.unwrap().unwrap().attempts, 5);
    assert!(letters.discard(&7).await.unwrap());
    assert_eq!(specimens.get(&7).await.unwrap(), None, "the sink has no such row");
    sink.accept();
    assert_eq!(letters.replay(&8).await.unwrap(), Replay::Again);
    assert_eq!(letters.replay(&7).await.unwrap(), Replay::Absent);
    assert_eq!(letters.replay_all().await.unwrap(), 298);
    specimens.flush().await.unwrap();
    assert_eq!(sink.rows().len(), 299, "all but the discarded one");
    assert_eq!(letters.count().await.unwrap(), 0);
    worker.shutdown(LONG).await.unwrap();
    writer.shutdown(LONG).await.unwrap();
    assert!(matches!(letters.replay(&8).await, Err(CacheError::Closed)));
}

/// Everything of the entity is deleted while a batch is on its way, as `FLUSHALL` does: the flush ends, and the worker goes
/// on with what is written from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_that_is_deleted_under_its_worker_ends_the_flush_and_not_the_worker() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("letters");
    let sink = ScriptedSink::<Specimen>::new();
    let options = EntityOptions::new().flush_every(Duration::from_millis(20)).max_batch(10).flush_concurrency(1);
    let engine = Engine::builder(RedisBuffer::connect(&url).await.unwrap())
        .namespace(&namespace)
        .lease(Duration::from_millis(600))
        .entity::<Specimen>(sink.clone(), options)
        .start()
        .await
        .unwrap();
    let specimens = engine.cache::<Specimen>().unwrap();
    sink.hold();
    specimens.put_many(&(0..500).map(|id| Specimen { id }).collect::<Vec<_>>()).await.unwrap();
    sink.waiting(1).await;
    let mut other = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    for partition in 0..16 {
        let keys =
            ["open", "flushing", "meta"].map(|what| format!("{namespace}:{{specimen:{partition:02}/16}}:{what}"));
        redis::cmd("DEL").arg(&keys).exec_async(&mut other).await.unwrap();
    }
    sink.release();
    specimens.put(&Specimen { id: 1_000 }).await.unwrap();
    let row = Id::of(&1_000_u64).unwrap();
    eventually("the next row in the sink", Duration::from_secs(30), async || sink.row(&row)).await;
    assert!(sink.rows().len() < 500, "what was deleted is lost");
    assert_eq!(engine.shutdown(LONG).await.unwrap().remaining, 0);
}
