//! An entity on its way into an engine: described, opened, running.

use std::any::TypeId;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::await_sink::Seen;
use super::{Engine, await_sink};
use crate::buffer::flush_trigger::Pressure;
use crate::buffer::{Buffer, Ear, LAYOUT, Registration, Space, Topology};
use crate::engine::figures;
use crate::entity::Entity;
use crate::entity_runtime::{AnyEntity, EntityRuntime};
use crate::error::buffer::BufferErrorKind;
use crate::error::finding::Finding;
use crate::error::{ConfigError, StartError, finding};
use crate::flush::Flusher;
use crate::flush::deferred_deletes::DeferredDeletes;
use crate::flush::evidence::Evidence;
use crate::flush::retry_schedule::RetrySchedule;
use crate::near_cache::Near;
use crate::options::EntityOptions;
use crate::ownership::{Leases, Ownership, Suspension};
use crate::read::Reader;
use crate::read::single_flight::SingleFlight;
use crate::receipts::tracker::Tracker;
use crate::receipts::{Receipts, tracker};
use crate::relations::{Member, Relations, Relative};
use crate::runtime::backlog::Backlog;
use crate::runtime::context::EntityContext;
use crate::runtime::data_loss;
use crate::runtime::intake::Intake;
use crate::runtime::lifecycle::Phase;
use crate::runtime::observed_epochs::ObservedEpochs;
use crate::runtime::readiness::Readiness;
use crate::runtime::shapes::Shapes;
use crate::runtime::written_since_loss::WrittenSinceLoss;
use crate::sink::Sink;
use crate::sink::hook::Hooks;
use crate::sink_gate::SinkGate;
use crate::sink_gate::load_gate::LoadGate;
use crate::telemetry::event::Listeners;
use crate::telemetry::log;
use crate::telemetry::scope::Scope;
use crate::telemetry::stats::Counters;
use crate::write::change_queue::ChangeQueue;
use crate::write::recheck::Recheck;
use crate::write::{LOOKING_FOR_ROOM, Writer, change_queue};
use crate::{flush, ownership};

/// What all entities of an engine share.
pub(super) struct Context {
    pub(super) buffer: Arc<dyn Buffer>,
    pub(super) namespace: String,
    pub(super) owner: String,
    pub(super) lease: Duration,
    pub(super) flushes: bool,
    pub(super) listeners: Listeners,
    pub(super) hooks: Hooks,
}

/// An entity that the builder was given, whatever its type.
#[async_trait]
pub(super) trait Setup: Send {
    fn name(&self) -> &'static str;
    /// Names of the entities that it belongs to.
    fn parents(&self) -> &'static [&'static str];
    fn ty(&self) -> TypeId;
    fn check(&self) -> Result<(), ConfigError>;
    /// The topology that it asks for.
    fn topology(&self) -> Topology;
    /// Looks at its share of the buffer and at its sink. Changes neither: whatever is found, whatever fails, nothing of it
    /// is seen by anybody.
    async fn examine(self: Box<Self>, context: &Context) -> Result<Box<dyn Examined>, StartError>;
}

/// An entity that can run, for all that looking can tell.
#[async_trait]
pub(super) trait Examined: Send + Sync {
    /// What the buffer is to agree on.
    fn registration(&self) -> &Registration;
    /// What was found in its share of the buffer and at its sink.
    fn findings(&self) -> Vec<Finding>;
    /// Names of the entities that it belongs to.
    fn parents(&self) -> &'static [&'static str];
    /// Whether this program can flush what a layout of this topology holds.
    fn can_drain(&self, stored: &Topology) -> bool;
    /// Opens it as it is stored, only to flush what is there: nobody is told of its shape.
    async fn open_aside(&self, context: &Context, stored: &Topology) -> Result<Box<dyn Opened>, StartError>;
    /// Makes what the sink needs, unless it is away.
    async fn prepare(&mut self) -> Result<(), StartError>;
    /// Opens it, when the buffer has agreed. Its shape is known before anything can be written.
    async fn open(self: Box<Self>, context: &Context) -> Result<Box<dyn Opened>, StartError>;
}

/// An entity that is ready to run.
#[async_trait]
pub(super) trait Opened: Send + Sync {
    /// What it is to the others.
    fn member(&self) -> Member;
    /// Tells it of the others, itself among them; before anything is flushed.
    fn link(&self, all: &[Member]);
    /// Takes the partitions that are free.
    async fn begin(&self);
    /// Spawns the tasks.
    fn join(self: Box<Self>, engine: &mut Engine, flushes: bool);
    /// Spawns the tasks that flush, and no others.
    fn flush_only(self: Box<Self>, tasks: &mut JoinSet<()>, phase: &watch::Sender<Phase>) -> Arc<dyn AnyEntity>;
}

pub(super) struct Described<T: Entity> {
    pub(super) sink: Arc<dyn Sink<T>>,
    pub(super) options: EntityOptions,
}

#[async_trait]
impl<T: Entity> Setup for Described<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn parents(&self) -> &'static [&'static str] {
        T::PARENTS
    }

    fn ty(&self) -> TypeId {
        TypeId::of::<T>()
    }

    fn check(&self) -> Result<(), ConfigError> {
        if T::APPEND && self.options.transactions {
            let what = "records that are only ever added are in no transaction";
            return Err(ConfigError::Option { entity: T::NAME, what });
        }
        self.options.check(T::NAME)
    }

    fn topology(&self) -> Topology {
        Topology {
            layout: LAYOUT,
            partitions: self.options.partitions,
            format: T::FORMAT.name().to_owned(),
            transactions: self.options.transactions,
            append: T::APPEND,
        }
    }

    async fn examine(self: Box<Self>, context: &Context) -> Result<Box<dyn Examined>, StartError> {
        let Self { sink, options } = *self;
        let scope = Scope::new(context.namespace.clone(), T::NAME, options.partitions);
        let scope = Arc::new(scope.with_listeners(context.listeners.clone()));
        let pressure = Arc::new(Pressure::new(options.flush_at));
        let near = Near::new(&options);
        let ear = Ear { nudges: context.flushes, near: near.listener() };
        let registration = Registration {
            scope: scope.clone(),
            format: T::FORMAT,
            pressure,
            max_dirty: options.max_dirty.map(|limit| limit.keys),
            ear,
            transactions: options.transactions,
            append: T::APPEND,
            sabotage: options.sabotage,
        };
        let entity = T::NAME;
        let failed = |source| StartError::Buffer { entity, source };
        let broken = match context.buffer.space(registration.clone()).await {
            Ok(space) => finding::broken(entity, &space.broken().await.map_err(failed)?),
            // Something of another layout stands in the way. Whether it can be drained is asked when all entities are known.
            Err(error) if error.kind() == BufferErrorKind::Topology => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let seen = await_sink::look(&*sink, &scope, &options).await?;
        Ok(Box::new(Looked { sink, options, registration, near, seen, broken }))
    }
}

/// What was made to look at an entity, and goes on when it runs.
struct Looked<T: Entity> {
    sink: Arc<dyn Sink<T>>,
    options: EntityOptions,
    registration: Registration,
    near: Near<T>,
    seen: Seen,
    /// Partitions that cannot be used.
    broken: Vec<Finding>,
}

impl<T: Entity> Looked<T> {
    /// The same in another layout.
    fn aside(&self, context: &Context, stored: &Topology) -> Self {
        let Topology { partitions, transactions, append, .. } = *stored;
        let options = EntityOptions { partitions, transactions, ..self.options.clone() };
        let scope = Scope::new(context.namespace.clone(), T::NAME, partitions);
        let scope = Arc::new(scope.with_listeners(context.listeners.clone()));
        let mut registration = Registration::new(scope, T::FORMAT);
        (registration.transactions, registration.append) = (transactions, append);
        registration.sabotage = options.sabotage;
        let seen = Seen { whole: self.seen.whole, findings: Vec::new(), away: self.seen.away.clone() };
        let near = Near::new(&options);
        Self { sink: self.sink.clone(), near, options, registration, seen, broken: Vec::new() }
    }

    fn into_runtime(self, context: &Context, space: Arc<dyn Space>, shapes: Shapes, leases: Leases) -> Ready<T> {
        let Self { sink, options, registration, near, seen, broken: _ } = self;
        let Registration { scope, pressure, .. } = registration;
        let readiness = Arc::new(Readiness::new(seen.away, seen.whole));
        if !readiness.is_ready() {
            // Others may reach the sink: what this worker cannot flush is not kept from them.
            leases.suspend(Suspension::Sink);
        }
        let (limit, retry) = (options.load_timeout, options.retry.clone());
        let load_gate = Arc::new(LoadGate::new(scope.clone(), readiness.clone(), limit, retry));
        let sink_gate = SinkGate::new(options.rate_limit, options.max_batch);
        let ctx = Arc::new(EntityContext {
            hook: context.hooks.of(),
            scope,
            options,
            space,
            sink,
            trigger: pressure,
            counters: Counters::default(),
            backlog: Backlog::default(),
            intake: Intake::new(),
            near,
            losses: AtomicU64::new(0),
            losses_told: AtomicU64::new(0),
            losses_before: AtomicU64::new(0),
            written: WrittenSinceLoss::default(),
            observed_epochs: ObservedEpochs::default(),
            highest_id: AtomicI64::new(0),
            lineage_turn: Semaphore::new(1),
            readiness,
            shapes,
            cycles: watch::channel(0).0,
        });
        let (leases, relations) = (Arc::new(leases), Arc::new(Relations::default()));
        let reader =
            Arc::new(Reader { ctx: ctx.clone(), single_flight: SingleFlight::default(), load_gate: load_gate.clone() });
        let writer = Writer {
            ctx: ctx.clone(),
            reader: reader.clone(),
            change_queue: ChangeQueue::default(),
            recheck: Recheck::default(),
            room: Semaphore::new(LOOKING_FOR_ROOM),
        };
        let flusher = Flusher {
            ctx: ctx.clone(),
            leases: leases.clone(),
            sink_gate,
            evidence: Evidence::default(),
            retry_schedule: RetrySchedule::default(),
            relations: relations.clone(),
            deferred_deletes: DeferredDeletes::default(),
            load_gate: load_gate.clone(),
        };
        let receipts = Receipts {
            ctx: ctx.clone(),
            leases: leases.clone(),
            relations: relations.clone(),
            tracker: Tracker::default(),
        };
        let ownership = Ownership { ctx: ctx.clone(), leases: leases.clone(), load_gate };
        let entity = EntityRuntime {
            ctx,
            leases,
            relations,
            ownership: Arc::new(ownership),
            reader,
            writer: Arc::new(writer),
            flusher: Arc::new(flusher),
            receipts: Arc::new(receipts),
        };
        Ready { entity: Arc::new(entity), told: seen.findings }
    }
}

#[async_trait]
impl<T: Entity> Examined for Looked<T> {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn findings(&self) -> Vec<Finding> {
        self.seen.findings.iter().chain(&self.broken).cloned().collect()
    }

    fn parents(&self) -> &'static [&'static str] {
        T::PARENTS
    }

    fn can_drain(&self, stored: &Topology) -> bool {
        let asked = self.registration.topology();
        let alike = stored.format == asked.format && stored.append == asked.append;
        alike && self.seen.away.is_none() && (self.seen.whole == Some(true) || !stored.transactions)
    }

    async fn open_aside(&self, context: &Context, stored: &Topology) -> Result<Box<dyn Opened>, StartError> {
        let aside = self.aside(context, stored);
        let space = context.buffer.space(aside.registration.clone()).await;
        let space = space.map_err(|source| StartError::Buffer { entity: T::NAME, source })?;
        // Older than all that are known: workers of the layout that are alive go on with it.
        let shapes = Shapes::aside(T::fields()).sabotaged(aside.options.sabotage);
        let leases = Leases::new(ownership::worker(&Uuid::new_v4().to_string(), 0), context.lease);
        Ok(Box::new(aside.into_runtime(context, space, shapes, leases)))
    }

    async fn prepare(&mut self) -> Result<(), StartError> {
        await_sink::prepare(&*self.sink, &self.registration.scope, &mut self.seen).await
    }

    async fn open(self: Box<Self>, context: &Context) -> Result<Box<dyn Opened>, StartError> {
        let failed = |source| StartError::Buffer { entity: T::NAME, source };
        let space = context.buffer.space(self.registration.clone()).await.map_err(failed)?;
        space.start().await.map_err(failed)?;
        let shapes = Shapes::new(T::fields()).sabotaged(self.options.sabotage);
        shapes.look(&*space).await.map_err(failed)?;
        let leases = Leases::new(ownership::worker(&context.owner, shapes.since_ms()), context.lease);
        if !context.flushes {
            leases.never();
        }
        let ready = self.into_runtime(context, space, shapes, leases);
        // What was lost before this engine is told before it takes its first write, and is no matter of its flushes and
        // receipts. Where the buffer does not answer, the watch asks again.
        let _ = data_loss::look(&ready.entity.ctx).await;
        let losses = ready.entity.ctx.losses.load(Ordering::Acquire);
        ready.entity.ctx.losses_told.store(losses, Ordering::Release);
        ready.entity.ctx.losses_before.store(losses, Ordering::Release);
        ready.entity.ctx.observe().await;
        Ok(Box::new(ready))
    }
}

/// A entity, and what the findings say of its sink.
struct Ready<T: Entity> {
    entity: Arc<EntityRuntime<T>>,
    told: Vec<Finding>,
}

#[async_trait]
impl<T: Entity> Opened for Ready<T> {
    fn member(&self) -> Member {
        let entity: Weak<EntityRuntime<T>> = Arc::downgrade(&self.entity);
        Member { name: T::NAME, parents: T::PARENTS, entity: entity as Weak<dyn Relative> }
    }

    fn link(&self, all: &[Member]) {
        self.entity.relations.link(T::NAME, T::PARENTS, all);
    }

    async fn begin(&self) {
        ownership::begin(&self.entity.ownership).await;
    }

    fn join(self: Box<Self>, engine: &mut Engine, flushes: bool) {
        let Self { entity, told } = *self;
        if !entity.ctx.readiness.is_ready() {
            let (awaiting, findings, over) = (entity.clone(), engine.findings.clone(), engine.phase.subscribe());
            engine.tasks.spawn(async move { await_sink::watch(&awaiting, &findings, told, over).await });
        }
        log::started(&entity.ctx.scope, flushes);
        let (watched, over) = (entity.clone(), engine.phase.subscribe());
        engine.tasks.spawn(async move { data_loss::watch(&watched.ctx, over).await });
        let (watched, over) = (entity.clone(), engine.phase.subscribe());
        engine.tasks.spawn(async move { ownership::watch(&watched.ownership, over).await });
        let (changed, over) = (entity.clone(), engine.phase.subscribe());
        engine.tasks.spawn(async move { change_queue::run(&changed.writer, over).await });
        let (asked, over) = (entity.clone(), engine.phase.subscribe());
        engine.tasks.spawn(async move { tracker::run(&asked.receipts, over).await });
        let (watched, over) = (entity.clone(), engine.phase.subscribe());
        engine.tasks.spawn(async move { figures::watch(&watched, over).await });
        if flushes {
            let (worker, over) = (entity.clone(), engine.phase.subscribe());
            engine.tasks.spawn(async move { flush::run(&worker.flusher, over).await });
            let (keeper, over) = (entity.clone(), engine.phase.subscribe());
            engine.tasks.spawn(async move { ownership::keep(&keeper.ownership, over).await });
        }
        engine.running.push(entity.clone());
        engine.entities.add(entity);
    }

    fn flush_only(self: Box<Self>, tasks: &mut JoinSet<()>, phase: &watch::Sender<Phase>) -> Arc<dyn AnyEntity> {
        let entity = self.entity;
        let (worker, over) = (entity.clone(), phase.subscribe());
        tasks.spawn(async move { flush::run(&worker.flusher, over).await });
        let (keeper, over) = (entity.clone(), phase.subscribe());
        tasks.spawn(async move { ownership::keep(&keeper.ownership, over).await });
        entity
    }
}
