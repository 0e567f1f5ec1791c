//! What becomes of a batch, and of what else a sink is asked.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Entry, Failure, Outcome, Refusal, ScriptedSink, State};
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::finding::Finding;
use crate::error::sink::{ErrorKind, SinkError, Unstorable};
use crate::sink::batch::{Batch, Fence, Report};
use crate::sink::{SameInserted, Sink};
use crate::telemetry::scope::Scope;

impl<E> State<E> {
    fn check_outage(&self) -> Result<(), SinkError> {
        self.outage.map_or(Ok(()), |kind| Err(scripted(kind)))
    }

    /// Applies a batch; the error says what goes wrong, the refused records are left out.
    fn apply(
        &mut self,
        fences: &[Fence],
        records: &BTreeMap<Id, Option<E>>,
        whole: bool,
    ) -> (Outcome, Vec<(Id, SinkError)>)
    where
        E: Entity + Clone,
    {
        let current = self.fences.as_ref();
        if fences.iter().any(|f| current.and_then(|c| c.get(&f.partition)).is_some_and(|now| *now > f.generation)) {
            return (Outcome::Failed(ErrorKind::Fenced), Vec::new());
        }
        let failure = self.next.pop_front().or(self.outage.map(|kind| Failure { kind, applied: false }));
        if let Some(Failure { kind, applied: false }) = failure {
            return (Outcome::Failed(kind), Vec::new());
        }
        let mut refused = Vec::new();
        for id in records.keys() {
            match self.refusals.iter().find(|refusal| (refusal.hits)(id)) {
                Some(Refusal { kind, named: false, ambiguous: false, .. }) => {
                    return (Outcome::Failed(*kind), Vec::new());
                }
                Some(Refusal { kind, named: false, .. }) => {
                    let error = SinkError::new(*kind, "scripted refusal of a batch").ambiguous();
                    return (Outcome::Failed(*kind), vec![(id.clone(), error)]);
                }
                Some(Refusal { kind, ambiguous, .. }) => {
                    let error = SinkError::new(*kind, format!("scripted refusal of record `{id}`"));
                    refused.push((id.clone(), if *ambiguous { error.ambiguous() } else { error }));
                }
                None => {}
            }
        }
        if let (true, Some((_, error))) = (whole, refused.first()) {
            return (Outcome::Failed(error.kind()), refused);
        }
        let newer = |rows: &BTreeMap<Id, E>, id: &Id, row: &E| rows.get(id).and_then(E::version) > row.version();
        let is_newer = |(id, row): &(&Id, &Option<E>)| row.as_ref().is_some_and(|row| newer(&self.rows, id, row));
        if let Some((id, _)) = records.iter().find(is_newer).filter(|_| whole) {
            let error = SinkError::new(ErrorKind::Rejected, format!("record `{id}` has a newer version"));
            return (Outcome::Failed(error.kind()), vec![(id.clone(), error)]);
        }
        let mut stale = Vec::new();
        for (id, state) in records.iter().filter(|(id, _)| !refused.iter().any(|(r, _)| r == *id)) {
            match state {
                Some(row) if newer(&self.rows, id, row) => stale.push(id.clone()),
                Some(row) => {
                    let row = match (&self.insert_only, self.rows.get(id)) {
                        (Some(fields), Some(before)) => (fields.keep)(before, row.clone()),
                        _ => row.clone(),
                    };
                    self.rows.insert(id.clone(), row);
                }
                None => drop(self.rows.remove(id)),
            }
        }
        match failure {
            Some(Failure { kind, .. }) => (Outcome::ReplyLost(kind), Vec::new()),
            None => {
                let names = refused.iter().map(|(id, _)| id.clone()).collect();
                (Outcome::Written { refused: names, stale }, refused)
            }
        }
    }
}

fn scripted(kind: ErrorKind) -> SinkError {
    SinkError::new(kind, "scripted failure")
}

#[async_trait]
impl<E: Entity + Clone> Sink<E> for ScriptedSink<E> {
    async fn open(&self, _scope: &Scope) -> Result<(), SinkError> {
        self.state().check_outage()
    }

    async fn examine(&self, _scope: &Scope) -> Result<Vec<Finding>, SinkError> {
        let state = self.state();
        state.check_outage()?;
        Ok(state.findings.clone())
    }

    async fn prepare(&self, _scope: &Scope) -> Result<(), SinkError> {
        self.state().check_outage()
    }

    fn check(&self, row: &E) -> Result<(), Unstorable> {
        self.state().unstorable.iter().find_map(|check| check(row)).map_or(Ok(()), Err)
    }

    async fn refresh(&self) -> Result<bool, SinkError> {
        let mut state = self.state();
        state.refreshes += 1;
        state.check_outage()?;
        if std::mem::take(&mut state.altered) {
            state.unstorable.clear();
        }
        Ok(true)
    }

    async fn fence(&self, _scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        let mut state = self.state();
        state.check_outage()?;
        Ok(state.fences.as_mut().map(|fences| {
            let generation = fences.entry(partition).or_default();
            *generation += 1;
            Fence::new(partition, *generation)
        }))
    }

    async fn write(&self, batch: &Batch<E>) -> Result<Report, SinkError> {
        self.pass_gate().await;
        let upserts = batch.upserts.iter().map(|upsert| (upsert.id.clone(), Some(upsert.value.clone())));
        let records = upserts.chain(batch.deletes.iter().map(|delete| (delete.id.clone(), None))).collect();
        let mut state = self.state();
        let (outcome, mut refused) = state.apply(&batch.fences, &records, batch.whole);
        let result = match &outcome {
            // Of a batch that is all or nothing, what was refused first.
            Outcome::Failed(_) if !refused.is_empty() => Err(refused.swap_remove(0).1),
            Outcome::Failed(kind) | Outcome::ReplyLost(kind) => Err(scripted(*kind)),
            Outcome::Written { stale, .. } => Ok(Report::written(1).with_rejected(refused).with_stale(stale.clone())),
        };
        let order = batch.upserts.iter().map(|upsert| upsert.id.clone()).collect();
        state.log.push(Entry { fences: batch.fences.clone(), records, order, outcome });
        result
    }

    fn insert_only(&self) -> Option<SameInserted<E>> {
        self.state().insert_only.as_ref().map(|fields| fields.same)
    }

    async fn load(&self, keys: &[E::Key]) -> Result<Vec<E>, SinkError> {
        self.state().loads += 1;
        loop {
            let released = self.shared.loads_released.notified();
            let mut ids = keys.iter().filter_map(|key| Id::of(key).ok());
            if !self.state().held_loads.as_ref().is_some_and(|hits| ids.any(|id| hits(&id))) {
                break;
            }
            released.await;
        }
        let state = self.state();
        state.check_outage()?;
        let ids = keys.iter().filter_map(|key| Id::of(key).ok());
        Ok(ids.filter_map(|id| state.rows.get(&id).cloned()).collect())
    }

    async fn writes_whole(&self) -> Result<bool, SinkError> {
        let state = self.state();
        state.check_outage()?;
        Ok(state.fences.is_some())
    }

    /// Keys whose id is a number count.
    async fn highest_key(&self) -> Result<Option<i64>, SinkError> {
        let state = self.state();
        state.check_outage()?;
        let numbers = state.rows.keys().filter_map(|id| std::str::from_utf8(id.as_bytes()).ok()?.parse().ok());
        Ok(numbers.max())
    }

    async fn close(&self) {
        self.state().closed = true;
    }
}
