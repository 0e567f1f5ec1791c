//! The engine: entities with their sinks over one buffer, and the tasks that flush them.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::backlog::{self, Backlog};
use crate::buffer::{Buffer, BufferError, BufferErrorKind, Registration};
use crate::cache::Cache;
use crate::dead_letters::DeadLetters;
use crate::doctor::{self, Finding};
use crate::entity::Entity;
use crate::error::{ConfigError, StartError, UnknownEntity};
use crate::events;
use crate::flow;
use crate::gate::Gate;
use crate::lane::{AnyLane, LOOKING_FOR_ROOM, Lane, NEVER, Phase};
use crate::lease::{self, Leases};
use crate::lineage;
use crate::loads::Loads;
use crate::metrics;
use crate::options::{EntityOptions, Role};
use crate::passage::Passage;
use crate::postponed::Postponed;
use crate::pressure::Pressure;
use crate::sink::{Scope, Sink};
use crate::stats::{Counters, EntityStats};

/// A running engine. End it with [`shutdown`](Engine::shutdown).
pub struct Engine {
    buffer: Arc<dyn Buffer>,
    lanes: Vec<Arc<dyn AnyLane>>,
    typed: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    tasks: JoinSet<()>,
    phase: watch::Sender<Phase>,
    findings: Vec<Finding>,
    over: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entities: Vec<_> = self.lanes.iter().map(|lane| lane.entity()).collect();
        f.debug_struct("Engine").field("entities", &entities).finish_non_exhaustive()
    }
}

/// What a shutdown left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Records that reached the sink since the shutdown began.
    pub flushed: u64,
    /// Records of the partitions this engine owned that are not in the sink; the next worker flushes them.
    pub remaining: u64,
    /// The same by entity.
    pub by_entity: BTreeMap<&'static str, DrainedEntity>,
}

/// What a shutdown left of one entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainedEntity {
    /// Records that reached the sink since the shutdown began.
    pub flushed: u64,
    /// Records that are not in the sink.
    pub remaining: u64,
}

impl Engine {
    /// Starts to describe an engine over `buffer`.
    pub fn builder(buffer: impl Buffer) -> EngineBuilder {
        EngineBuilder {
            buffer: Arc::new(buffer),
            namespace: "wb".to_owned(),
            role: Role::Both,
            lease: Duration::from_secs(10),
            entities: Vec::new(),
        }
    }

    /// Writes and reads of entity `T`.
    ///
    /// # Errors
    /// [`UnknownEntity`] when the builder was not given `T`.
    pub fn cache<T: Entity>(&self) -> Result<Cache<T>, UnknownEntity> {
        self.lane().map(Cache::new)
    }

    /// Records of entity `T` that its sink refuses: listed, replayed, discarded. Works in any process, a writer's too.
    ///
    /// # Errors
    /// [`UnknownEntity`] when the builder was not given `T`.
    pub fn dead_letters<T: Entity>(&self) -> Result<DeadLetters<T>, UnknownEntity> {
        self.lane().map(DeadLetters::new)
    }

    fn lane<T: Entity>(&self) -> Result<Arc<Lane<T>>, UnknownEntity> {
        let lane = self.typed.get(&TypeId::of::<T>()).cloned().and_then(|lane| lane.downcast::<Lane<T>>().ok());
        lane.ok_or(UnknownEntity { entity: T::NAME })
    }

    /// Figures of every entity since the start, in this process.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<&'static str, EntityStats> {
        self.lanes.iter().map(|lane| (lane.entity(), lane.stats())).collect()
    }

    /// What was found at start: nothing fatal, but perhaps warnings.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Partitions that this engine flushes now, by entity. Workers share the partitions evenly; a sum over all workers of
    /// less than all of them means that some are between two owners.
    #[must_use]
    pub fn owned(&self) -> BTreeMap<&'static str, Vec<u16>> {
        self.lanes.iter().map(|lane| (lane.entity(), lane.owned())).collect()
    }

    /// Stops flushing here, for a rolling deploy: what is in flight is settled, then this engine's partitions are given up
    /// and it counts as a worker no more. Other workers take them within a third of a lease, or at their next start.
    /// Writes and reads go on; [`shutdown`](Self::shutdown) afterwards has nothing left to flush.
    ///
    /// Returns when everything is given up. That takes as long as the batches that are on their way: with a sink that is
    /// down about a lease, and until it is back where the sink does not fence. With a buffer that is down it waits, too.
    /// Dropping the future does not take the request back; calling it again waits again. A [`Role::Writer`] has nothing
    /// to hand over.
    pub async fn handover(&self) {
        futures::future::join_all(self.lanes.iter().map(|lane| lane.hand_over())).await;
    }

    /// Takes no more writes, flushes what this engine owns for at most `deadline`, ends its tasks and gives its
    /// partitions up. Counting what is left, giving up and closing may take until the deadline, or 2 s more; what does not
    /// answer by then is not waited for.
    ///
    /// # Errors
    /// When the buffer cannot say what is left. The engine is over all the same.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<Drained, BufferError> {
        // "However long it takes" is a deadline too.
        let until = Instant::now().checked_add(deadline).unwrap_or_else(|| Instant::now() + NEVER);
        let before: Vec<u64> = self.lanes.iter().map(|lane| lane.stats().flushed).collect();
        // A lease that is lost meanwhile takes nothing off what is left.
        let mut owned: Vec<BTreeSet<u16>> = self.lanes.iter().map(|lane| lane.held().into_iter().collect()).collect();
        for lane in &self.lanes {
            lane.close();
        }
        futures::future::join_all(self.lanes.iter().map(|lane| lane.drain(until))).await;
        for (owned, lane) in owned.iter_mut().zip(&self.lanes) {
            owned.extend(lane.held());
            lane.end();
        }
        self.phase.send_replace(Phase::Stopped);
        let mut cut = vec![false; self.lanes.len()];
        // A task that is in the middle of a retry does not hear; it is cut off at the deadline, which is harmless: what
        // was not acknowledged is still dirty.
        if timeout_at(until, async { while self.tasks.join_next().await.is_some() {} }).await.is_err() {
            for (cut, lane) in cut.iter_mut().zip(&self.lanes) {
                *cut = lane.is_at_work();
            }
            self.tasks.abort_all();
            // Not one that never yields: it would hold up everything here.
            let _ = tokio::time::timeout(FAREWELL, async { while self.tasks.join_next().await.is_some() {} }).await;
        }
        let last = until.max(Instant::now());
        let last = last.checked_add(FAREWELL).unwrap_or(last);
        let parted = self.lanes.iter().zip(owned).zip(cut);
        let parted = parted.map(|((lane, owned), cut)| part(&**lane, owned.into_iter().collect(), cut, last));
        let parted = futures::future::join_all(parted).await;
        if timeout_at(last, self.buffer.close()).await.is_err() {
            events::not_closed("(all)");
        }
        self.over = true;
        let mut drained = Drained::default();
        for ((lane, before), remaining) in self.lanes.iter().zip(before).zip(parted) {
            let (remaining, flushed) = (remaining?, lane.stats().flushed.saturating_sub(before));
            drained.flushed += flushed;
            drained.remaining += remaining;
            drained.by_entity.insert(lane.entity(), DrainedEntity { flushed, remaining });
        }
        Ok(drained)
    }
}

/// How long what is asked at the end of a shutdown may go on after its deadline.
const FAREWELL: Duration = Duration::from_secs(2);

/// Counts what a lane leaves in these partitions, gives its leases up and closes its sink.
async fn part(lane: &dyn AnyLane, owned: Vec<u16>, cut: bool, last: Instant) -> Result<u64, BufferError> {
    let count = async {
        let remaining = timeout_at(last, lane.remaining(&owned)).await;
        if timeout_at(last, lane.release(cut)).await.is_err() {
            events::not_given_up(lane.entity());
        }
        remaining.unwrap_or_else(|_| {
            Err(BufferError::new(BufferErrorKind::Unavailable, "the buffer does not say in time what is left"))
        })
    };
    // Beside it, so that a buffer that is away does not take the sink's time.
    let (remaining, closed) = tokio::join!(count, timeout_at(last, lane.close_sink()));
    if closed.is_err() {
        events::not_closed(lane.entity());
    }
    remaining
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.over {
            events::dropped();
            for lane in &self.lanes {
                lane.close();
                lane.end();
            }
        }
    }
}

/// Describes an engine; from [`Engine::builder`].
#[must_use = "an engine runs after `start`"]
pub struct EngineBuilder {
    buffer: Arc<dyn Buffer>,
    namespace: String,
    role: Role,
    lease: Duration,
    entities: Vec<Box<dyn Setup>>,
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl EngineBuilder {
    /// First part of every Redis key: 1 to 64 ASCII letters, digits, `_`, `-` and `.`. Default: `wb`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// What this engine does. Default: [`Role::Both`].
    pub const fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// How long a worker keeps a partition without renewing: a dead worker's partitions are taken over after this.
    /// 100 ms to 10 minutes. Default: 10 s.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Adds entity `T`, flushed to `sink`.
    pub fn entity<T: Entity>(mut self, sink: impl Sink<T>, options: EntityOptions) -> Self {
        self.entities.push(Box::new(Described::<T> { sink: Arc::new(sink), options }));
        self
    }

    /// Checks the settings, opens the buffer and the sinks, and starts the tasks.
    ///
    /// # Errors
    /// [`StartError`]: senseless settings, an unreachable sink, a topology that disagrees with what the buffer
    /// holds. Nothing runs then.
    pub async fn start(self) -> Result<Engine, StartError> {
        self.check()?;
        let context = Context {
            buffer: self.buffer.clone(),
            namespace: self.namespace,
            owner: Uuid::new_v4().to_string(),
            lease: self.lease,
            flushes: self.role.flushes(),
        };
        let unreachable = |source| StartError::Buffer { entity: "(all)", source };
        let mut findings = self.buffer.examine().await.map_err(unreachable)?;
        if doctor::fatal(&findings).is_some() {
            // Not even its topology is written to such a buffer.
            return Err(StartError::Unfit { findings });
        }
        let mut opened = Vec::with_capacity(self.entities.len());
        for entity in self.entities {
            let (lane, found) = entity.open(&context).await?;
            opened.push(lane);
            findings.extend(found);
        }
        if doctor::fatal(&findings).is_some() {
            return Err(StartError::Unfit { findings });
        }
        findings.iter().for_each(events::found);
        if context.flushes {
            // Only now that nothing can fail any more: leases of an engine that does not start would lock others out.
            futures::future::join_all(opened.iter().map(|lane| lane.begin())).await;
        }
        metrics::describe();
        let (phase, _) = watch::channel(Phase::Running);
        let mut engine = Engine {
            buffer: self.buffer,
            lanes: Vec::new(),
            typed: HashMap::new(),
            tasks: JoinSet::new(),
            phase,
            findings,
            over: false,
        };
        for lane in opened {
            lane.join(&mut engine, context.flushes);
        }
        Ok(engine)
    }

    /// Looks at the buffer and every sink as [`start`](Self::start) does, starts nothing, and says everything that it
    /// finds; what `start` would fail with is a fatal finding.
    pub async fn doctor(self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let failed = |error: &StartError| Finding::fatal("start", "engine", crate::error::chain(error));
        if let Err(error) = self.check() {
            return vec![failed(&error.into())];
        }
        match self.buffer.examine().await {
            Ok(found) => findings.extend(found),
            Err(source) => findings.push(failed(&StartError::Buffer { entity: "(all)", source })),
        }
        let context = Context {
            buffer: self.buffer.clone(),
            namespace: self.namespace,
            owner: Uuid::new_v4().to_string(),
            lease: self.lease,
            flushes: false,
        };
        for entity in self.entities {
            match entity.open(&context).await {
                Ok((_, found)) => findings.extend(found),
                Err(error) => findings.push(failed(&error)),
            }
        }
        self.buffer.close().await;
        findings
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !is_word(&self.namespace) {
            return Err(ConfigError::Namespace { namespace: self.namespace.clone() });
        }
        if self.lease < Duration::from_millis(100) || self.lease > Duration::from_secs(600) {
            return Err(ConfigError::Lease);
        }
        if self.entities.is_empty() {
            return Err(ConfigError::NoEntity);
        }
        let mut names = Vec::new();
        for entity in &self.entities {
            let name = entity.name();
            if !is_word(name) {
                return Err(ConfigError::EntityName { entity: name });
            }
            if names.contains(&name) {
                return Err(ConfigError::DuplicateEntity { entity: name });
            }
            names.push(name);
            entity.check()?;
        }
        Ok(())
    }
}

/// Words that can stand in Redis keys and hash tags without changing their meaning.
fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

struct Context {
    buffer: Arc<dyn Buffer>,
    namespace: String,
    owner: String,
    lease: Duration,
    flushes: bool,
}

/// An entity that the builder was given, whatever its type.
#[async_trait]
trait Setup: Send {
    fn name(&self) -> &'static str;
    fn check(&self) -> Result<(), ConfigError>;
    async fn open(self: Box<Self>, context: &Context) -> Result<(Box<dyn Opened>, Vec<Finding>), StartError>;
}

/// An entity that is ready to run.
#[async_trait]
trait Opened: Send + Sync {
    /// Takes the partitions that are free.
    async fn begin(&self);
    /// Spawns the tasks.
    fn join(self: Box<Self>, engine: &mut Engine, flushes: bool);
}

struct Described<T: Entity> {
    sink: Arc<dyn Sink<T>>,
    options: EntityOptions,
}

#[async_trait]
impl<T: Entity> Setup for Described<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.options.check(T::NAME)
    }

    async fn open(self: Box<Self>, context: &Context) -> Result<(Box<dyn Opened>, Vec<Finding>), StartError> {
        let Self { sink, options } = *self;
        let scope = Arc::new(Scope::new(context.namespace.clone(), T::NAME, options.partitions));
        let pressure = Arc::new(Pressure::new(options.flush_at));
        let registration = Registration {
            scope: scope.clone(),
            format: T::FORMAT,
            pressure: pressure.clone(),
            max_dirty: options.max_dirty.map(|limit| limit.keys),
            sabotage: options.sabotage,
        };
        let leases = Leases::new(context.owner.clone(), context.lease);
        if !context.flushes {
            leases.never();
        }
        let entity = T::NAME;
        let space = context.buffer.space(registration).await.map_err(|source| StartError::Buffer { entity, source })?;
        sink.open(&scope).await.map_err(|source| StartError::Sink { entity, source })?;
        let findings = sink.examine(&scope).await.map_err(|source| StartError::Sink { entity, source })?;
        let lane = Lane {
            passage: Passage::new(options.rate_limit),
            postponed: Postponed::default(),
            scope,
            options,
            space,
            sink,
            pressure,
            counters: Counters::default(),
            backlog: Backlog::default(),
            leases,
            gate: Gate::new(),
            loads: Loads::default(),
            room: Semaphore::new(LOOKING_FOR_ROOM),
            cycles: watch::channel(0).0,
        };
        Ok((Box::new(Arc::new(lane)), findings))
    }
}

#[async_trait]
impl<T: Entity> Opened for Arc<Lane<T>> {
    async fn begin(&self) {
        lease::begin(self).await;
    }

    fn join(self: Box<Self>, engine: &mut Engine, flushes: bool) {
        let lane = *self;
        events::started(&lane.scope, flushes);
        let (watcher, phase) = (lane.clone(), engine.phase.subscribe());
        engine.tasks.spawn(async move { lineage::watch(&watcher, phase).await });
        if flushes {
            let (worker, keeper) = (lane.clone(), lane.clone());
            let (phase, phase_too) = (engine.phase.subscribe(), engine.phase.subscribe());
            engine.tasks.spawn(async move { flow::run(&worker, phase).await });
            engine.tasks.spawn(async move { lease::keep(&keeper, phase_too).await });
        }
        let (watcher, phase) = (lane.clone(), engine.phase.subscribe());
        engine.tasks.spawn(async move { backlog::watch(&watcher, phase).await });
        let (watcher, phase) = (lane.clone(), engine.phase.subscribe());
        engine.tasks.spawn(async move { lease::watch(&watcher, phase).await });
        engine.lanes.push(lane.clone());
        engine.typed.insert(TypeId::of::<T>(), lane);
    }
}
