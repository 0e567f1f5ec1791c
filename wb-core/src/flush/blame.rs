//! blame: whose fault a refusal is that may be the record's or the configuration's. It is the record's when other records of the
//! same verb land in the same write or in a later one; until then it is left open.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::sink::{ErrorKind, SinkError};
use crate::flush::Flusher;
use crate::flush::claim::Claimed;
use crate::flush::evidence::Verb;
use crate::flush::units::ids;
use crate::flush::write_batch::{Aside, Flushed, Why};
use crate::sink::batch::{Batch, Report};
use crate::sink_gate::Failed;
use crate::telemetry::log;

/// The ambiguous refusals of one write.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// Since when each of these records is refused.
    pub(crate) since: Vec<(Id, Instant)>,
    /// Those of them of which nobody knows whose fault it is.
    pub(crate) open: HashSet<Id>,
    /// What was said of one of these.
    pub(crate) said: String,
}

/// A record, or the first one of a unit, that was refused by itself.
#[derive(Debug)]
pub(crate) struct Open {
    id: Id,
    verb: Verb,
    /// Since when it is refused.
    since: Instant,
    error: SinkError,
}

impl Open {
    pub(crate) fn of<E: Entity>(batch: &Batch<E>, error: SinkError, since: Instant) -> Option<Self> {
        let verb = if batch.upserts.is_empty() { Verb::Delete } else { Verb::Upsert };
        ids(batch).next().map(|id| Self { id: id.clone(), verb, since, error })
    }
}

impl<E: Entity> Flusher<E> {
    /// Notes which verbs of a write landed and changed something, and weighs its ambiguous refusals. `known`: since when records are refused.
    pub(crate) fn weigh(
        &self,
        batch: &Batch<E>,
        report: &Report,
        begun: Instant,
        known: &HashMap<Id, Instant>,
    ) -> Doubts {
        let refused: HashMap<&Id, &SinkError> = report.rejected.iter().map(|(id, error)| (id, error)).collect();
        if !report.idle && batch.upserts.iter().any(|upsert| !refused.contains_key(&upsert.id)) {
            self.evidence.landed(Verb::Upsert, begun);
        }
        if batch.deletes.iter().any(|delete| !refused.contains_key(&delete.id)) {
            self.evidence.landed(Verb::Delete, begun);
        }
        let mut doubts = Doubts::default();
        if !refused.values().any(|error| error.is_ambiguous()) {
            return doubts;
        }
        let upserts = batch.upserts.iter().map(|upsert| (&upsert.id, Verb::Upsert));
        for (id, verb) in upserts.chain(batch.deletes.iter().map(|delete| (&delete.id, Verb::Delete))) {
            let Some(error) = refused.get(id).filter(|error| error.is_ambiguous()) else { continue };
            let since = known.get(id).copied().unwrap_or(begun);
            doubts.since.push((id.clone(), since));
            if !self.evidence.acquits_configuration(verb, since) {
                doubts.open.insert(id.clone());
                doubts.said = error.chain();
            }
        }
        doubts
    }

    /// The same of records and units that were refused one by one, when all others were tried.
    pub(crate) fn blame(&self, open: Vec<Open>, flushed: &mut Flushed) {
        let (mut left, mut said) = (0, None);
        for Open { id, verb, since, error } in open {
            flushed.doubted.push((id.clone(), since));
            if self.evidence.acquits_configuration(verb, since) {
                flushed.refused.push((id, error));
            } else {
                left += 1;
                said = Some(error);
                flushed.aside.push(Aside { id, why: Why::Doubted });
            }
        }
        if let Some(error) = said {
            let failed = self.sink_gate.doubted(&self.ctx.options.retry, rand::random());
            self.tell_doubt(failed, left, &error.chain());
        }
    }

    /// Nothing landed, and nobody knows whose fault it is: others are tried with care.
    pub(crate) fn tell_doubt(&self, failed: Failed, records: usize, said: &str) {
        self.ctx.counters.failed.of(ErrorKind::Misconfigured).add(1);
        let text = format!("nothing lands, and the fault may be the records' or the configuration's: {said}");
        let error = SinkError::new(ErrorKind::Misconfigured, text);
        if failed.paused {
            log::paused(&self.ctx.scope, &error);
        } else {
            log::retrying(&self.ctx.scope, records, failed.failures, failed.wait, &error);
        }
    }

    /// Since when those of these records are refused of which it is open whose fault that is.
    pub(crate) fn known_doubts<'a>(&self, claimed: impl Iterator<Item = &'a Claimed>) -> HashMap<Id, Instant> {
        let since = claimed
            .filter_map(|Claimed { id, record, .. }| Some((id.clone(), self.retry_schedule.doubted(id, record)?)));
        since.collect()
    }

    /// Remembers since when records are refused.
    pub(crate) fn remember_doubts<'a>(&self, claimed: impl Iterator<Item = &'a Claimed>, since: Vec<(Id, Instant)>) {
        if since.is_empty() {
            return;
        }
        let since: HashMap<Id, Instant> = since.into_iter().collect();
        for Claimed { id, record, .. } in claimed {
            if let Some(&refused) = since.get(id) {
                self.retry_schedule.doubt(id, record, refused);
            }
        }
    }
}
