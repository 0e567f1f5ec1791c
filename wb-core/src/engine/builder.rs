//! What an engine is made of, and how it starts.

use crate::entity_runtime::Entities;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Engine;
use super::relayout;
use super::setup::{Context, Described, Examined, Setup};
use crate::buffer::Buffer;
use crate::entity::Entity;
use crate::error::finding;
use crate::error::finding::Finding;
use crate::error::{ConfigError, StartError};
use crate::options::{EntityOptions, Role};
use crate::relations;
use crate::runtime::lifecycle::Phase;
use crate::runtime::orphans;
use crate::runtime::orphans::Namespace;
use crate::sink::Sink;
use crate::sink::hook::{BeforeFlush, Hooks};
use crate::telemetry::event::{Listeners, Stage};
use crate::telemetry::findings::Findings;
use crate::telemetry::{log, metrics};

/// Describes an engine; from [`Engine::builder`].
#[must_use = "an engine runs after `start`"]
pub struct EngineBuilder {
    pub(super) buffer: Arc<dyn Buffer>,
    pub(super) namespace: String,
    pub(super) role: Role,
    pub(super) lease: Duration,
    pub(super) topology_change_within: Duration,
    pub(super) entities: Vec<Box<dyn Setup>>,
    pub(super) hooks: Hooks,
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

    /// How long [`start`](Self::start) may take to lay entities out anew: with another number of partitions, or with
    /// [transactions](EntityOptions::transactions) where there were none. Default: 30 s. Zero: only when nothing of them is dirty.
    ///
    /// The change itself is one step, for which nothing may be dirty. So the old layout is closed for writes, partition by partition, while
    /// what is dirty is flushed: by the workers that run, and by this start where there is none, whatever its [role](Self::role). Reads go on.
    /// Programs of the old layout get errors of kind [`Topology`](crate::BufferErrorKind::Topology) for what they write from then on, and also
    /// afterwards; replace them. When the time is over, or dead letters stand in the way, the start fails, says what is left, and the old
    /// layout is open again; so it is after a lease when this process dies meanwhile.
    ///
    /// What another [format](Entity::FORMAT) or an append-only entity has stored this program cannot flush: such a change is refused at once
    /// while anything is dirty.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use wb_core::{Engine, MemoryBuffer};
    /// let builder = Engine::builder(MemoryBuffer::new()).topology_change_within(Duration::from_secs(120));
    /// ```
    pub const fn topology_change_within(mut self, time: Duration) -> Self {
        self.topology_change_within = time;
        self
    }

    /// Adds entity `T`, flushed to `sink`.
    pub fn entity<T: Entity>(mut self, sink: impl Sink<T>, options: EntityOptions) -> Self {
        self.entities.push(Box::new(Described::<T> { sink: Arc::new(sink), options }));
        self
    }

    /// Shows `hook` every row of entity `T` on its way from the buffer to the sink, in the worker that flushes it; what it
    /// returns is written, or nothing is. For columns that are computed, texts that are cut, rows that only live in the
    /// buffer. Give the entity itself too, before or after this. Every process that flushes the entity needs the hook.
    ///
    /// The hook concerns the sink alone: readers of the buffer go on seeing what was put, until the clean copy's TTL is
    /// over; what is loaded from the sink then is what the hook has made of it. A skipped record counts as flushed. Deletes
    /// are not shown.
    ///
    /// The hook may see the same state more than once (a batch that is tried again, a worker that died), and not every state:
    /// writes are coalesced. So it must depend on nothing but the row, and have no effect. It runs between claiming and
    /// writing, and must not block. A record on which it panics, or whose key it changes, becomes a dead letter of kind
    /// `hook` at once; others go on.
    ///
    /// ```
    /// # use wb_core::{CodecError, Entity, Engine, EntityOptions, Format, MemoryBuffer, codec, testing::ScriptedSink};
    /// # #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// # struct Player { id: u64, name: String }
    /// # impl Entity for Player {
    /// #     type Key = u64;
    /// #     const NAME: &'static str = "player";
    /// #     const FORMAT: Format = Format::Json;
    /// #     fn key(&self) -> u64 { self.id }
    /// #     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
    /// #     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
    /// # }
    /// use wb_core::BeforeFlush;
    ///
    /// # async fn example(sink: ScriptedSink<Player>) -> Result<(), Box<dyn std::error::Error>> {
    /// let engine = Engine::builder(MemoryBuffer::new())
    ///     .entity::<Player>(sink, EntityOptions::new())
    ///     .before_flush::<Player>(|mut player| {
    ///         if player.name.starts_with("guest-") {
    ///             return BeforeFlush::Skip;
    ///         }
    ///         player.name = player.name.trim().to_owned();
    ///         BeforeFlush::Write(player)
    ///     })
    ///     .start()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn before_flush<T: Entity>(mut self, hook: impl Fn(T) -> BeforeFlush<T> + Send + Sync + 'static) -> Self {
        self.hooks.add(hook);
        self
    }

    /// Checks the settings, opens the buffer and the sinks, and starts the tasks.
    ///
    /// A sink that is *away* (no answer, no connection) does not keep the engine from starting, whatever its role: it is a
    /// finding `sink-away`, writes are acknowledged into the buffer, what is there can be read, and other reads fail at once with
    /// [`CacheError::SinkAway`](crate::CacheError::SinkAway). The sink is looked at again and again, within 5 s; when it is there, findings
    /// are those of a start, and the entity is flushed. When it is there and *wrong*, writes are refused with
    /// [`CacheError::SinkUnfit`](crate::CacheError::SinkUnfit) until it is put right.
    ///
    /// # Errors
    /// [`StartError`]: senseless settings, an unreachable buffer, a sink that answers and is wrong (a password, a table), a topology that disagrees with what the buffer
    /// holds and cannot change in [time](Self::topology_change_within). Nothing runs then, and nothing has changed that other engines can see:
    /// topology, shapes and leases are as they were. Only when the buffer goes away in the very last steps the topology may be the new one
    /// already: nothing is dirty then, and programs of the old one take no writes until one of them is started again.
    pub async fn start(self) -> Result<Engine, StartError> {
        self.check()?;
        let stage = Arc::new(Stage::default());
        let context = Context {
            buffer: self.buffer.clone(),
            namespace: self.namespace,
            owner: Uuid::new_v4().to_string(),
            lease: self.lease,
            flushes: self.role.flushes(),
            listeners: Listeners::of(&stage),
            hooks: self.hooks,
        };
        let unreachable = |source| StartError::Buffer { entity: "(all)", source };
        let mut findings = self.buffer.examine().await.map_err(unreachable)?;
        if finding::fatal(&findings).is_some() {
            // Not even its topology is written to such a buffer.
            return Err(StartError::Unfit { findings });
        }
        findings.extend(relations::absent(&family(&self.entities)));
        let space = seen_by(&self.entities, &self.buffer, &context.namespace);
        let orphans = space.look().await;
        findings.extend(orphans::findings(&context.namespace, &orphans));
        let mut examined = Vec::with_capacity(self.entities.len());
        // Beside each other: each may have to wait for a database that does not answer.
        let looks = self.entities.into_iter().map(|entity| entity.examine(&context));
        for entity in futures::future::join_all(looks).await {
            examined.push(entity?);
        }
        let found_at = |examined: &[Box<dyn Examined>]| -> Vec<Finding> {
            examined.iter().flat_map(|entity| entity.findings()).collect()
        };
        let found = found_at(&examined);
        if finding::fatal(&findings).is_some() || finding::fatal(&found).is_some() {
            findings.extend(found);
            return Err(StartError::Unfit { findings });
        }
        for entity in &examined {
            relayout::look(&context, &**entity, self.topology_change_within).await?;
        }
        // Until here nothing has changed that anybody else can see, and what is wrong has been found. First the sinks are
        // made ready, which may still fail and harms nobody; then the buffer agrees on all entities at once, or refuses all.
        for entity in &mut examined {
            entity.prepare().await?;
        }
        findings.extend(found_at(&examined));
        relayout::agree(&context, &examined, self.topology_change_within).await?;
        let mut opened = Vec::with_capacity(examined.len());
        for entity in examined {
            opened.push(entity.open(&context).await?);
        }
        findings.iter().for_each(log::found);
        let members: Vec<_> = opened.iter().map(|entity| entity.member()).collect();
        opened.iter().for_each(|entity| entity.link(&members));
        if context.flushes {
            // Only now that nothing can fail any more: leases of an engine that does not start would lock others out.
            futures::future::join_all(opened.iter().map(|entity| entity.begin())).await;
        }
        metrics::describe();
        let (phase, _) = watch::channel(Phase::Running);
        let mut engine = Engine {
            buffer: self.buffer,
            running: Vec::new(),
            entities: Entities::default(),
            tasks: JoinSet::new(),
            phase,
            findings: Arc::new(Findings::new(findings)),
            stage,
            over: false,
        };
        for entity in opened {
            entity.join(&mut engine, context.flushes);
        }
        let over = engine.phase.subscribe();
        engine.tasks.spawn(orphans::watch(space, orphans.unwrap_or_default(), context.listeners, over));
        Ok(engine)
    }

    /// Looks at the buffer and every sink as [`start`](Self::start) does, and says everything that it finds; what `start`
    /// would fail with is a fatal finding. Starts nothing and changes nothing, neither in the buffer nor in a sink, so it
    /// can be asked beside engines that run.
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
        findings.extend(relations::absent(&family(&self.entities)));
        let context = Context {
            buffer: self.buffer.clone(),
            namespace: self.namespace,
            owner: Uuid::new_v4().to_string(),
            lease: self.lease,
            flushes: false,
            listeners: Listeners::default(),
            hooks: self.hooks,
        };
        let orphans = seen_by(&self.entities, &self.buffer, &context.namespace).look().await;
        findings.extend(orphans::findings(&context.namespace, &orphans));
        let looks = self.entities.into_iter().map(|entity| entity.examine(&context));
        for looked in futures::future::join_all(looks).await {
            match looked {
                Ok(entity) => {
                    findings.extend(entity.findings());
                    match relayout::look(&context, &*entity, self.topology_change_within).await {
                        Ok(found) => findings.extend(found),
                        Err(error) => findings.push(failed(&error)),
                    }
                }
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
        let types: Vec<_> = self.entities.iter().map(|entity| entity.ty()).collect();
        self.hooks.check(&types)?;
        relations::check(&family(&self.entities))
    }
}

/// The namespace as an engine with these entities sees it.
fn seen_by(entities: &[Box<dyn Setup>], buffer: &Arc<dyn Buffer>, namespace: &str) -> Namespace {
    let own = entities.iter().map(|entity| (entity.name(), entity.topology())).collect();
    Namespace { buffer: buffer.clone(), name: namespace.to_owned(), own }
}

/// The entities, and what they belong to.
fn family(entities: &[Box<dyn Setup>]) -> Vec<(&'static str, &'static [&'static str])> {
    entities.iter().map(|entity| (entity.name(), entity.parents())).collect()
}

/// Words that can stand in Redis keys and hash tags without changing their meaning.
fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}
