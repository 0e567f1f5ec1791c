//! The model: which steps there are, and what each does to the world.

use stateright::{Model, Property};

use crate::action::Action;
use crate::buffer::{Buffer, Copy};
use crate::client::Reader;
use crate::flow::land;
use crate::mechanism::{Mechanism, Without};
use crate::promises;
use crate::state::State;
use crate::worker::{Cycle, Term, Who};

/// How much may happen. What is not bounded here may happen any number of times: crashes, pauses, lost leases, expired
/// copies, retries, replays.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Writes: put, delete, put, ... in turn.
    pub writes: u8,
    /// Refusals by the sink.
    pub refusals: u8,
    /// Generations that the sink issues; `None`: any number. With a number, states keep the names of workers, epochs and
    /// generations apart: there are more of them, and a trace reads as it happened.
    pub generations: Option<u8>,
    /// Times that Redis loses data: all of it, or what came after a snapshot.
    pub losses: u8,
    /// Whether a transaction may outlive its worker, or the connection on which its worker waited for it.
    pub orphans: bool,
    /// Whether a reader reads.
    pub reader: bool,
    /// Whether writes after the first may be updates by compare-and-set.
    pub updater: bool,
    /// Whether clean copies are kept: a `cache_ttl` that is not zero.
    pub copies: bool,
    /// Whether every call of `rotate` stamps the epoch with a name of its own, which the steps that finish it check. The
    /// scripts check owner and number only: see [the crate's documentation](crate#when-redis-loses-data).
    pub stamps: bool,
}

/// The protocol, or what is left of it.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// How much may happen.
    pub bounds: Bounds,
    /// What is taken away.
    pub without: Without,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(&self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(Action::WORLD);
        for who in Who::ALL {
            actions.extend(Action::WORKER.map(|action| action(who)));
        }
        if self.bounds.reader {
            actions.extend(Action::READER);
        }
        if self.bounds.updater {
            actions.extend(Action::UPDATER);
        }
        if state.losses > 0 {
            actions.extend([Action::Save, Action::Lose]);
        }
        if state.sink.late.is_some() {
            actions.push(Action::LateArrives);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = *before;
        let Done = self.step(&mut state, action)?;
        Some(if self.bounds.generations.is_none() { state.canonical() } else { state })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all(self)
    }
}

/// The step was possible, and is done.
pub(crate) struct Done;

pub(crate) fn only_if(possible: bool) -> Option<Done> {
    possible.then_some(Done)
}

impl Protocol {
    pub(crate) fn has(&self, mechanism: Mechanism) -> bool {
        self.without.has(mechanism)
    }

    /// Does a step, if it is possible now.
    fn step(&self, state: &mut State, action: Action) -> Option<Done> {
        match action {
            Action::Put => self.put(state),
            Action::LeaseExpires => only_if(state.buffer.lease.take().is_some()),
            Action::CopyExpires => self.copy_expires(state),
            Action::OpenExpires => only_if(!self.has(Mechanism::NoTtl) && state.buffer.open.take().is_some()),
            Action::Take(who) => Self::take(state, who),
            Action::Lapse(who) => {
                let term = &mut state.worker_mut(who).term;
                only_if(std::mem::take(term) != Term::Lost)
            }
            Action::Fence(who) => self.fence(state, who),
            Action::Begin(who) => self.begin(state.worker_mut(who)),
            Action::Rotate(who) => self.rotate(state, who),
            Action::Claim(who) => self.claim(state, who),
            Action::Write(who) => self.write(state, who),
            Action::Commit(who) => self.commit(state, who),
            Action::Abort(who) => Self::end(state, who, Cycle::Claimed),
            Action::LoseReply(who) => self.lose_reply(state, who),
            Action::Refuse(who) => {
                state.refusals = state.refusals.checked_sub(1)?;
                Self::end(state, who, Cycle::Refused)
            }
            Action::Ack(who) => self.ack(state, who),
            Action::Back(who) => self.settle_refused(state, who, |state, _| state.buffer.back(self.without)),
            Action::Bury(who) => {
                self.settle_refused(state, who, |state, claim| state.buffer.bury(claim.record, self.without))
            }
            Action::Interrupt(who) => self.interrupt(state, who),
            Action::Crash(who) => self.crash(state, who),
            Action::OrphanCommits => {
                let batch = state.sink.orphan.take()?;
                land(state, batch);
                Some(Done)
            }
            Action::OrphanAborts => only_if(state.sink.orphan.take().is_some()),
            Action::LateArrives => self.late_arrives(state),
            Action::Replay => only_if(state.buffer.replay(self.without)),
            Action::Read => self.read(state),
            Action::Look => self.look(state),
            Action::LeaveToken => self.leave_token(state),
            Action::Load => Self::load(state),
            Action::Fill => self.fill(state),
            Action::GiveUp => only_if(std::mem::take(&mut state.reader) != Reader::Idle),
            Action::UpdateLook => self.update_look(state),
            Action::UpdateLoad => self.update_load(state),
            Action::UpdateAnchor => Self::update_anchor(state),
            Action::UpdateSet => self.update_set(state),
            Action::Save => only_if(state.saved.replace(state.buffer) != Some(state.buffer)),
            Action::Lose => self.lose(state),
        }
    }

    pub(crate) fn put(&self, state: &mut State) -> Option<Done> {
        let next = state.ghost.acknowledged.next();
        if next.0 > self.bounds.writes {
            return None;
        }
        state.buffer.put(next, self.without);
        state.ghost.acknowledged = next;
        Some(Done)
    }

    fn copy_expires(&self, state: &mut State) -> Option<Done> {
        let expires = match state.buffer.copy {
            Copy::Absent => false,
            Copy::Pinned(_) => !self.has(Mechanism::CopyPinned),
            Copy::Token(_) | Copy::Expiring(_) => true,
        };
        state.buffer.copy = Copy::Absent;
        only_if(expires)
    }

    fn lose(&self, state: &mut State) -> Option<Done> {
        state.losses = state.losses.checked_sub(1)?;
        state.buffer = state.saved.take().unwrap_or(Buffer::EMPTY);
        if !self.has(Mechanism::FenceInSink) {
            state.sink.generation = state.buffer.generation;
        }
        state.ghost.forgiven = state.ghost.acknowledged;
        Some(Done)
    }
}
