//! What a worker does, step by step: `wb-core/src/flow/` and `wb-core/src/lease.rs`, against the buffer and the sink.

use crate::buffer::Rotation;
use crate::mechanism::Mechanism;
use crate::protocol::{Done, Protocol, only_if};
use crate::sink::Batch;
use crate::state::{Breach, State};
use crate::worker::{Claim, Cycle, Term, Who, Worker};

impl Protocol {
    pub(crate) fn take(state: &mut State, who: Who) -> Option<Done> {
        let before = (state.buffer.lease, state.worker(who).term);
        if !state.buffer.take(who) {
            return None;
        }
        // A right is kept even if the lease had expired in the buffer: nothing is assumed of clocks.
        if state.worker(who).term == Term::Lost {
            state.worker_mut(who).term = Term::Taken;
        }
        only_if((state.buffer.lease, state.worker(who).term) != before)
    }

    pub(crate) fn fence(&self, state: &mut State, who: Who) -> Option<Done> {
        let locked = self.has(Mechanism::FenceLock) && (state.writing() || state.sink.orphan.is_some());
        let taken = state.worker(who).term == Term::Taken;
        let counter =
            if self.has(Mechanism::FenceInSink) { &mut state.sink.generation } else { &mut state.buffer.generation };
        let full = self.bounds.generations.is_some_and(|most| *counter >= most);
        if !taken || locked || full {
            return None;
        }
        *counter += 1;
        let generation = *counter;
        state.sink.generation = generation;
        state.worker_mut(who).term = Term::Right(generation);
        Some(Done)
    }

    pub(crate) fn begin(&self, worker: &mut Worker) -> Option<Done> {
        let right = match worker.term {
            Term::Right(generation) => generation,
            Term::Taken if !self.has(Mechanism::FenceFirst) => 0,
            Term::Lost | Term::Taken => return None,
        };
        if worker.cycle != Cycle::Idle {
            return None;
        }
        worker.cycle = Cycle::Begun(right);
        Some(Done)
    }

    pub(crate) fn rotate(&self, state: &mut State, who: Who) -> Option<Done> {
        let Cycle::Begun(right) = state.worker(who).cycle else { return None };
        let rotation = state.buffer.rotate(who, self.bounds.stamps, self.without);
        let worker = state.worker_mut(who);
        worker.cycle = match rotation {
            Rotation::Epoch(epoch) => Cycle::Closed { right, epoch },
            Rotation::Empty => Cycle::Idle,
            Rotation::NotOwner => {
                worker.forget(right);
                Cycle::Idle
            }
        };
        // A stamp is used once: those of earlier calls mean nothing any more, wherever they may come back from.
        if let Some(saved) = &mut state.saved
            && saved.stamp == Some(who)
        {
            saved.stamp = None;
        }
        Some(Done)
    }

    pub(crate) fn claim(&self, state: &mut State, who: Who) -> Option<Done> {
        let Cycle::Closed { right, epoch } = state.worker(who).cycle else { return None };
        let found = if self.has(Mechanism::CommitFirst) { state.buffer.flushing } else { state.buffer.flushing.take() };
        state.worker_mut(who).cycle = match found {
            Some(record) => Cycle::Claimed(Claim { right, epoch, record }),
            None => Cycle::Idle,
        };
        Some(Done)
    }

    /// `SELECT ... FOR SHARE` of the generation, then the rows.
    pub(crate) fn write(&self, state: &mut State, who: Who) -> Option<Done> {
        let Cycle::Claimed(mut claim) = state.worker(who).cycle else { return None };
        let locked = state.writing() && self.has(Mechanism::FenceLock)
            || state.sink.orphan.is_some() && self.has(Mechanism::RowLock);
        if locked {
            return None;
        }
        let late = !self.has(Mechanism::RightOfRotation) || claim.right == 0;
        if let Term::Right(generation) = state.worker(who).term
            && late
        {
            claim.right = generation;
        }
        let fenced = self.has(Mechanism::Fence) && claim.right != state.sink.generation;
        let worker = state.worker_mut(who);
        if fenced {
            worker.forget(claim.right);
            worker.cycle = Cycle::Idle;
        } else {
            worker.cycle = Cycle::Writing(claim);
        }
        Some(Done)
    }

    pub(crate) fn commit(&self, state: &mut State, who: Who) -> Option<Done> {
        let Cycle::Writing(claim) = state.worker(who).cycle else { return None };
        if state.sink.orphan.is_some() && self.has(Mechanism::RowLock) {
            return None;
        }
        land(state, claim.batch());
        Self::end(state, who, Cycle::Written)
    }

    /// A transaction ends.
    pub(crate) fn end(state: &mut State, who: Who, next: fn(Claim) -> Cycle) -> Option<Done> {
        let Cycle::Writing(claim) = state.worker(who).cycle else { return None };
        state.worker_mut(who).cycle = next(claim);
        Some(Done)
    }

    pub(crate) fn lose_reply(&self, state: &mut State, who: Who) -> Option<Done> {
        let Cycle::Writing(claim) = state.worker(who).cycle else { return None };
        if state.sink.orphan.is_some() || !self.bounds.orphans {
            return None;
        }
        state.sink.orphan = Some(claim.batch());
        Self::end(state, who, Cycle::Claimed)
    }

    pub(crate) fn late_arrives(&self, state: &mut State) -> Option<Done> {
        let batch = state.sink.late?;
        if state.writing() || state.sink.orphan.is_some() {
            return None;
        }
        state.sink.late = None;
        if batch.generation == state.sink.generation || !self.has(Mechanism::Fence) {
            land(state, batch);
        }
        Some(Done)
    }

    pub(crate) fn ack(&self, state: &mut State, who: Who) -> Option<Done> {
        let Cycle::Written(claim) = state.worker(who).cycle else { return None };
        if self.finish(state, who, claim)
            && let Some(removed) = state.buffer.ack(self.bounds.copies, self.without)
            && removed > claim.record
            && removed > state.ghost.forgiven
        {
            state.ghost.flag(Breach::ClearedNewer);
        }
        Some(Done)
    }

    pub(crate) fn settle_refused(
        &self,
        state: &mut State,
        who: Who,
        settle: impl Fn(&mut State, Claim),
    ) -> Option<Done> {
        let Cycle::Refused(claim) = state.worker(who).cycle else { return None };
        if self.finish(state, who, claim) {
            settle(state, claim);
        }
        Some(Done)
    }

    /// Ends the cycle; says whether the epoch is still the worker's to finish.
    fn finish(&self, state: &mut State, who: Who, claim: Claim) -> bool {
        let holds = state.buffer.holds(who, claim.epoch, self.bounds.stamps, self.without);
        let worker = state.worker_mut(who);
        worker.cycle = Cycle::Idle;
        if !holds {
            worker.forget(claim.right);
        }
        holds
    }

    /// A transaction that is under way is always waited for.
    pub(crate) fn interrupt(&self, state: &mut State, who: Who) -> Option<Done> {
        match state.worker(who).cycle {
            Cycle::Idle | Cycle::Writing(_) => return None,
            Cycle::Claimed(claim) if !self.has(Mechanism::Settle) => {
                if state.sink.late.is_some() {
                    return None;
                }
                state.sink.late = Some(claim.batch());
            }
            Cycle::Begun(_) | Cycle::Closed { .. } | Cycle::Claimed(_) | Cycle::Written(_) | Cycle::Refused(_) => {}
        }
        state.worker_mut(who).cycle = Cycle::Idle;
        Some(Done)
    }

    pub(crate) fn crash(&self, state: &mut State, who: Who) -> Option<Done> {
        let worker = std::mem::take(state.worker_mut(who));
        if let Cycle::Writing(claim) = worker.cycle
            && state.sink.orphan.is_none()
            && self.bounds.orphans
        {
            state.sink.orphan = Some(claim.batch());
        }
        only_if(worker != Worker::default())
    }
}

/// A batch is committed.
pub(crate) fn land(state: &mut State, batch: Batch) {
    if batch.record < state.sink.row && state.sink.row > state.ghost.forgiven {
        state.ghost.flag(Breach::WentBack);
    }
    if batch.generation < state.sink.generation {
        state.ghost.flag(Breach::StaleCommit);
    }
    state.sink.row = batch.record;
}
