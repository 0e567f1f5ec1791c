//! Histories of whole engines.
#![expect(clippy::panic, reason = "a history that breaks a promise ends the test that plays it")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use super::KEYS;
use crate::api::cache::Cache;
use crate::buffer::Buffer;
use crate::engine::Engine;
use crate::entity::key::Id;
use crate::error::sink::ErrorKind;
use crate::options::EntityOptions;
use crate::options::retry_policy::RetryPolicy;
use crate::testing::{ScriptedSink, Specimen};

/// The shortest lease that an engine takes.
const LEASE: Duration = Duration::from_millis(100);
/// Longer than any flush of a history.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A new state of a key.
    Put(u8),
    /// A delete of a key.
    Delete(u8),
    /// New states of three keys.
    PutMany(u8),
    /// One key is read.
    Get(u8),
    /// All keys are read.
    GetMany,
    /// Everything is flushed now; a sink that is held is let go first.
    Flush,
    /// The engine is dropped without shutdown, and another one takes over.
    Crash,
    /// The engine is shut down, and another one takes over.
    Restart,
    /// The next write fails, and is not applied.
    Fail(ErrorKind),
    /// The next write is applied, and its reply is lost.
    LoseReply(ErrorKind),
    /// The sink hangs.
    Hold,
    /// The sink goes on.
    Release,
    /// Some time passes.
    Wait,
}

impl Step {
    fn of((kind, n): (u8, u8)) -> Self {
        let key = n % KEYS;
        let failure = if n < 128 { ErrorKind::Transient } else { ErrorKind::Unavailable };
        match kind % 24 {
            0..=5 => Self::Put(key),
            6 | 7 => Self::Delete(key),
            8 | 9 => Self::PutMany(key),
            10..=12 => Self::Get(key),
            13 => Self::GetMany,
            14 | 15 => Self::Flush,
            16 => Self::Crash,
            17 if n < 64 => Self::Restart,
            18 => Self::Fail(failure),
            19 => Self::LoseReply(failure),
            20 => Self::Hold,
            21 => Self::Release,
            _ => Self::Wait,
        }
    }
}

/// The steps that these bytes mean.
#[must_use]
pub fn steps(bytes: &[(u8, u8)]) -> Vec<Step> {
    bytes.iter().copied().map(Step::of).collect()
}

struct World<'a, B, F, E: Specimen> {
    connect: &'a F,
    namespace: String,
    cache_ttl: Duration,
    sink: ScriptedSink<E>,
    engine: Option<(Engine, Cache<E>)>,
    state: BTreeMap<u8, E>,
    rounds: u64,
    _buffer: std::marker::PhantomData<fn() -> B>,
}

/// Plays a history on engines over the buffers that `connect` makes, which must share their records.
///
/// # Panics
/// When a read sees anything but the last acknowledged state, a flush does not end, or the sink does not end as the
/// acknowledged states say.
pub async fn play<B: Buffer, E: Specimen>(connect: impl AsyncFn() -> B, steps: &[Step], cache: bool)
where
    E::Key: Debug,
{
    let mut world = World {
        connect: &connect,
        namespace: format!("history-{}", uuid::Uuid::new_v4().simple()),
        cache_ttl: if cache { Duration::from_secs(60) } else { Duration::ZERO },
        sink: ScriptedSink::<E>::new(),
        engine: None,
        state: BTreeMap::new(),
        rounds: 0,
        _buffer: std::marker::PhantomData,
    };
    for (number, step) in steps.iter().enumerate() {
        world.step(*step, &format!("step {number}, {step:?}")).await;
    }
    world.end().await;
}

impl<B: Buffer, F: AsyncFn() -> B, E: Specimen> World<'_, B, F, E> {
    async fn cache(&mut self) -> Cache<E> {
        if let Some((_, cache)) = &self.engine {
            return cache.clone();
        }
        let retry = RetryPolicy::new().initial(Duration::from_millis(1)).cap(Duration::from_millis(5));
        let options = EntityOptions::new()
            .partitions(3)
            .flush_every(Duration::from_millis(20))
            .max_batch(4)
            .cache_ttl(self.cache_ttl)
            .retry(retry);
        let builder = Engine::builder((self.connect)().await).namespace(self.namespace.clone()).lease(LEASE);
        let engine = match builder.entity::<E>(self.sink.clone(), options).start().await {
            Ok(engine) => engine,
            Err(error) => panic!("the engine does not start: {}", crate::error::chain(&error)),
        };
        let Ok(cache) = engine.cache::<E>() else { panic!("the engine lost its entity") };
        self.engine = Some((engine, cache.clone()));
        cache
    }

    fn next(&mut self, key: u8) -> E {
        self.rounds += 1;
        let value = E::specimen(key.into()).revise(self.rounds);
        self.state.insert(key, value.clone());
        value
    }

    fn release(&self) {
        self.sink.release();
    }

    async fn step(&mut self, step: Step, when: &str) {
        let cache = self.cache().await;
        let ok = |result: Result<(), crate::error::CacheError>| {
            if let Err(error) = result {
                panic!("{when}: {}", crate::error::chain(&error));
            }
        };
        match step {
            Step::Put(key) => ok(cache.put(&self.next(key)).await.map(drop)),
            Step::PutMany(key) => {
                let values = [key, (key + 1) % KEYS, key, (key + 2) % KEYS].map(|key| self.next(key));
                ok(cache.put_many(&values).await.map(drop));
            }
            Step::Delete(key) => {
                self.state.remove(&key);
                ok(cache.delete(&E::specimen(key.into()).key()).await.map(drop));
            }
            Step::Get(key) => self.reads(&cache, &[key], when).await,
            Step::GetMany => self.reads(&cache, &(0..KEYS).collect::<Vec<_>>(), when).await,
            Step::Flush => {
                self.release();
                self.flush(&cache, when).await;
            }
            Step::Crash => self.engine = None,
            Step::Restart => {
                self.release();
                if let Some((engine, _)) = self.engine.take() {
                    match engine.shutdown(PATIENCE).await {
                        Ok(drained) if drained.remaining == 0 => {}
                        other => panic!("{when}: {other:?}"),
                    }
                }
            }
            Step::Fail(kind) => self.sink.fail_next(kind),
            Step::LoseReply(kind) => self.sink.lose_next_reply(kind),
            Step::Hold => self.sink.hold(),
            Step::Release => self.release(),
            Step::Wait => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }

    async fn flush(&self, cache: &Cache<E>, when: &str) {
        match cache.flush_within(PATIENCE).await {
            Ok(true) => self.sink_holds(when),
            other => panic!("{when}: flush: {other:?}"),
        }
    }

    async fn reads(&self, cache: &Cache<E>, keys: &[u8], when: &str) {
        let found = match keys {
            [key] => cache.get(&E::specimen((*key).into()).key()).await.map(|value| vec![value]),
            _ => cache.get_many(&keys.iter().map(|key| E::specimen((*key).into()).key()).collect::<Vec<_>>()).await,
        };
        let found = found.unwrap_or_else(|error| panic!("{when}: get: {}", crate::error::chain(&error)));
        let expected: Vec<_> = keys.iter().map(|key| self.state.get(key).cloned()).collect();
        assert_eq!(found, expected, "{when}: keys {keys:?} read wrong");
    }

    fn sink_holds(&self, when: &str) {
        let ids = |value: &E| Id::of(&value.key()).unwrap_or_else(|error| panic!("no id: {error}"));
        let expected: BTreeMap<Id, E> = self.state.values().map(|value| (ids(value), value.clone())).collect();
        assert_eq!(self.sink.rows(), expected, "{when}: the sink differs from what was acknowledged");
    }

    async fn end(mut self) {
        self.release();
        let cache = self.cache().await;
        self.flush(&cache, "at the end").await;
        self.reads(&cache, &(0..KEYS).collect::<Vec<_>>(), "at the end").await;
        self.step(Step::Restart, "at the end").await;
    }
}
