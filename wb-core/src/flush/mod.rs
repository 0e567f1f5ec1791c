//! The flow of a record, one file a verb.
//!
//! ```text
//! put ─▶ open ─rotate─▶ flushing ─claim─▶ batch ─flush─▶ sink ─settle─▶ clean copy | open again | dead letter
//! append ─▶ log ─rotate─▶ closed log ─read─▶ batch ─flush─▶ sink ─trim─▶ off the log | open | dead letter
//! get: open, flushing, clean copy, sink
//! ```

pub(crate) mod append_log;
pub(crate) mod blame;
pub(crate) mod claim;
pub(crate) mod cycle;
pub(crate) mod decode;
pub(crate) mod deferred_deletes;
pub(crate) mod evidence;
pub(crate) mod newer_records;
pub(crate) mod parts;
pub(crate) mod relation_order;
pub(crate) mod retry_schedule;
pub(crate) mod rotate;
pub(crate) mod search;
pub(crate) mod settle;
pub(crate) mod taken;
pub(crate) mod transform;
pub(crate) mod units;
pub(crate) mod write_batch;

use std::sync::Arc;

use crate::entity::Entity;
use crate::flush::deferred_deletes::DeferredDeletes;
use crate::flush::evidence::Evidence;
use crate::flush::retry_schedule::RetrySchedule;
use crate::ownership::leases::Leases;
use crate::relations::Relations;
use crate::runtime::backlog::Found;
use crate::runtime::context::EntityContext;
use crate::sink_gate::SinkGate;
use crate::sink_gate::load_gate::LoadGate;
use crate::telemetry::log;

pub(crate) use cycle::run;

/// Takes what is dirty from the buffer into the sink.
pub(crate) struct Flusher<E: Entity> {
    pub(crate) ctx: Arc<EntityContext<E>>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) sink_gate: SinkGate,
    /// Which writes landed, by which it is known whose fault a refusal is.
    pub(crate) evidence: Evidence,
    pub(crate) retry_schedule: RetrySchedule,
    /// Entities that this one belongs to, and that belong to it.
    pub(crate) relations: Arc<Relations>,
    /// Deletes that wait for children.
    pub(crate) deferred_deletes: DeferredDeletes,
    /// Whether the sink may be asked for what the buffer does not have.
    pub(crate) load_gate: Arc<LoadGate>,
}

impl<E: Entity> Flusher<E> {
    /// Whether this is a worker whose sink was not there since its start: it holds no partitions, but not because others do.
    pub(crate) fn awaits_sink(&self) -> bool {
        !self.ctx.readiness.is_ready() && self.leases.is_listed()
    }

    /// Looks at what waits.
    pub(crate) async fn look(&self) {
        let held = if self.awaits_sink() { self.ctx.all_partitions() } else { self.leases.owned() };
        match self.ctx.space.pending(&held).await {
            Ok(report) => {
                self.ctx.backlog.saw(&held, &report.pending);
                self.ctx.saw_broken(Found::ByRecords, &held, &report.failed);
            }
            // Whatever else needs the buffer reports it as what it is.
            Err(error) => log::backlog_unknown(&self.ctx.scope, &error),
        }
    }
}
