//! The steps.

use stateright::{Model, Property};

use crate::buffer::{Copy, Loader, Record, Rotation};
use crate::client::{Place, Reader, Updater};
use crate::mechanism::{Mechanism, Without};
use crate::promises;
use crate::sink::Batch;
use crate::state::{Breach, State};
use crate::worker::{Claim, Cycle, Term, Who, Worker};

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

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A put or a delete is acknowledged.
    Put,
    /// A lease runs out.
    LeaseExpires,
    /// What has a TTL at `r:<id>` is gone.
    CopyExpires,
    /// `open` expires (without [`Mechanism::NoTtl`]).
    OpenExpires,
    /// A worker takes or renews the lease.
    Take(Who),
    /// A worker's own clock says that its lease is over, or a renewal is refused.
    Lapse(Who),
    /// The sink fences the partition for a worker.
    Fence(Who),
    /// A worker begins a cycle: it looks by which right it works.
    Begin(Who),
    /// `rotate`
    Rotate(Who),
    /// `claim`
    Claim(Who),
    /// The transaction of a batch reaches the sink, and is checked.
    Write(Who),
    /// The sink commits, and the worker hears of it.
    Commit(Who),
    /// The sink rolls back for a passing reason; the worker will try again.
    Abort(Who),
    /// The connection breaks in mid-commit: the worker will try again, while the transaction may yet commit.
    LoseReply(Who),
    /// The sink refuses the record.
    Refuse(Who),
    /// `ack`
    Ack(Who),
    /// `back`
    Back(Who),
    /// `bury`
    Bury(Who),
    /// A cycle ends early: Redis does not answer, or the sink's code panics.
    Interrupt(Who),
    /// A worker dies; another process takes its place.
    Crash(Who),
    /// A transaction without a worker commits.
    OrphanCommits,
    /// A transaction without a worker is rolled back.
    OrphanAborts,
    /// A batch that its worker has turned its back on arrives (without [`Mechanism::Settle`]).
    LateArrives,
    /// Somebody replays the dead letter.
    Replay,
    /// A read begins.
    Read,
    /// The read looks into the next place.
    Look,
    /// The read leaves its token.
    LeaveToken,
    /// The read asks the sink.
    Load,
    /// The read fills in what it has loaded.
    Fill,
    /// The read is dropped.
    GiveUp,
    /// An update looks for the state that it starts from.
    UpdateLook,
    /// The update asks the sink.
    UpdateLoad,
    /// The update fills in what it has loaded, to compare with.
    UpdateAnchor,
    /// The update compares and sets.
    UpdateSet,
    /// Redis is saved, or replicated, as it is now.
    Save,
    /// Redis comes back as it was saved, or empty.
    Lose,
}

impl Action {
    const WORLD: [Self; 7] = [
        Self::Put,
        Self::LeaseExpires,
        Self::CopyExpires,
        Self::OrphanCommits,
        Self::OrphanAborts,
        Self::Replay,
        Self::OpenExpires,
    ];
    const WORKER: [fn(Who) -> Self; 16] = [
        Self::Take,
        Self::Lapse,
        Self::Fence,
        Self::Begin,
        Self::Rotate,
        Self::Claim,
        Self::Write,
        Self::Commit,
        Self::Abort,
        Self::LoseReply,
        Self::Refuse,
        Self::Ack,
        Self::Back,
        Self::Bury,
        Self::Interrupt,
        Self::Crash,
    ];
    const READER: [Self; 6] = [Self::Read, Self::Look, Self::LeaveToken, Self::Load, Self::Fill, Self::GiveUp];
    const UPDATER: [Self; 4] = [Self::UpdateLook, Self::UpdateLoad, Self::UpdateAnchor, Self::UpdateSet];
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
struct Done;

fn only_if(possible: bool) -> Option<Done> {
    possible.then_some(Done)
}

impl Protocol {
    fn has(&self, mechanism: Mechanism) -> bool {
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

    fn put(&self, state: &mut State) -> Option<Done> {
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

    fn take(state: &mut State, who: Who) -> Option<Done> {
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

    fn fence(&self, state: &mut State, who: Who) -> Option<Done> {
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

    fn begin(&self, worker: &mut Worker) -> Option<Done> {
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

    fn rotate(&self, state: &mut State, who: Who) -> Option<Done> {
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

    fn claim(&self, state: &mut State, who: Who) -> Option<Done> {
        let Cycle::Closed { right, epoch } = state.worker(who).cycle else { return None };
        let found = if self.has(Mechanism::CommitFirst) { state.buffer.flushing } else { state.buffer.flushing.take() };
        state.worker_mut(who).cycle = match found {
            Some(record) => Cycle::Claimed(Claim { right, epoch, record }),
            None => Cycle::Idle,
        };
        Some(Done)
    }

    /// `SELECT ... FOR SHARE` of the generation, then the rows.
    fn write(&self, state: &mut State, who: Who) -> Option<Done> {
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

    fn commit(&self, state: &mut State, who: Who) -> Option<Done> {
        let Cycle::Writing(claim) = state.worker(who).cycle else { return None };
        if state.sink.orphan.is_some() && self.has(Mechanism::RowLock) {
            return None;
        }
        land(state, claim.batch());
        Self::end(state, who, Cycle::Written)
    }

    /// A transaction ends.
    fn end(state: &mut State, who: Who, next: fn(Claim) -> Cycle) -> Option<Done> {
        let Cycle::Writing(claim) = state.worker(who).cycle else { return None };
        state.worker_mut(who).cycle = next(claim);
        Some(Done)
    }

    fn lose_reply(&self, state: &mut State, who: Who) -> Option<Done> {
        let Cycle::Writing(claim) = state.worker(who).cycle else { return None };
        if state.sink.orphan.is_some() || !self.bounds.orphans {
            return None;
        }
        state.sink.orphan = Some(claim.batch());
        Self::end(state, who, Cycle::Claimed)
    }

    fn late_arrives(&self, state: &mut State) -> Option<Done> {
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

    fn ack(&self, state: &mut State, who: Who) -> Option<Done> {
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

    fn settle_refused(&self, state: &mut State, who: Who, settle: impl Fn(&mut State, Claim)) -> Option<Done> {
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
    fn interrupt(&self, state: &mut State, who: Who) -> Option<Done> {
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

    fn crash(&self, state: &mut State, who: Who) -> Option<Done> {
        let worker = std::mem::take(state.worker_mut(who));
        if let Cycle::Writing(claim) = worker.cycle
            && state.sink.orphan.is_none()
            && self.bounds.orphans
        {
            state.sink.orphan = Some(claim.batch());
        }
        only_if(worker != Worker::default())
    }

    fn read(&self, state: &mut State) -> Option<Done> {
        if state.reader != Reader::Idle {
            return None;
        }
        state.reader = Reader::Looking { looked: 0, since: state.ghost.acknowledged };
        Some(Done)
    }

    fn places(&self) -> [Place; 3] {
        match (self.has(Mechanism::OpenBeforeFlushing), self.has(Mechanism::CopyLast)) {
            (true, true) => [Place::Open, Place::Flushing, Place::Copy],
            (true, false) => [Place::Copy, Place::Open, Place::Flushing],
            (false, true) => [Place::Flushing, Place::Open, Place::Copy],
            (false, false) => [Place::Copy, Place::Flushing, Place::Open],
        }
    }

    fn look(&self, state: &mut State) -> Option<Done> {
        let Reader::Looking { looked, since } = state.reader else { return None };
        let place = self.places().get(usize::from(looked)).copied()?;
        let found = match place {
            Place::Open => state.buffer.open,
            Place::Flushing => state.buffer.flushing,
            Place::Copy => state.buffer.copy.record(),
        };
        let loading = place == Place::Copy && matches!(state.buffer.copy, Copy::Token(_));
        state.reader = if let Some(record) = found {
            answer(state, record, since);
            Reader::Idle
        } else if loading && self.has(Mechanism::CopyLast) {
            Reader::Loading { since, fill: false }
        } else if usize::from(looked) + 1 < self.places().len() {
            Reader::Looking { looked: looked + 1, since }
        } else {
            Reader::Missed { since }
        };
        Some(Done)
    }

    fn leave_token(&self, state: &mut State) -> Option<Done> {
        let Reader::Missed { since } = state.reader else { return None };
        state.reader = if !self.has(Mechanism::LoadToken) || state.buffer.token(Loader::Reader) {
            Reader::Loading { since, fill: true }
        } else {
            Reader::Looking { looked: 0, since }
        };
        Some(Done)
    }

    fn load(state: &mut State) -> Option<Done> {
        let Reader::Loading { since, fill } = state.reader else { return None };
        let loaded = state.sink.row;
        answer(state, loaded, since);
        state.reader = if fill { Reader::Filling { loaded } } else { Reader::Idle };
        Some(Done)
    }

    fn fill(&self, state: &mut State) -> Option<Done> {
        let Reader::Filling { loaded } = state.reader else { return None };
        if self.has(Mechanism::LoadToken) {
            state.buffer.fill(Loader::Reader, loaded, self.bounds.copies);
        } else if self.bounds.copies && state.buffer.copy == Copy::Absent {
            state.buffer.copy = Copy::Expiring(loaded);
        }
        state.reader = Reader::Idle;
        Some(Done)
    }

    fn update_look(&self, state: &mut State) -> Option<Done> {
        if state.updater != Updater::Idle || state.ghost.acknowledged.0 >= self.bounds.writes {
            return None;
        }
        if let Some(from) = state.buffer.visible() {
            state.updater = Updater::Computed { from, absent: false };
        } else if !self.has(Mechanism::Anchor) || state.buffer.token(Loader::Updater) {
            state.updater = Updater::Loading;
        } else {
            return None;
        }
        Some(Done)
    }

    fn update_load(&self, state: &mut State) -> Option<Done> {
        if state.updater != Updater::Loading {
            return None;
        }
        let loaded = state.sink.row;
        state.updater = if self.has(Mechanism::Anchor) {
            Updater::Filling { loaded }
        } else {
            Updater::Computed { from: loaded, absent: true }
        };
        Some(Done)
    }

    fn update_anchor(state: &mut State) -> Option<Done> {
        let Updater::Filling { loaded } = state.updater else { return None };
        state.updater = if state.buffer.fill(Loader::Updater, loaded, true) {
            Updater::Computed { from: loaded, absent: false }
        } else {
            Updater::Idle
        };
        Some(Done)
    }

    fn update_set(&self, state: &mut State) -> Option<Done> {
        let Updater::Computed { from, absent } = state.updater else { return None };
        state.updater = Updater::Idle;
        let current = state.buffer.visible();
        if current == Some(from) || absent && current.is_none() {
            if state.latest() != from {
                state.ghost.flag(Breach::LostUpdate);
            }
            self.put(state)?;
        }
        Some(Done)
    }

    fn lose(&self, state: &mut State) -> Option<Done> {
        state.losses = state.losses.checked_sub(1)?;
        state.buffer = state.saved.take().unwrap_or(crate::Buffer::EMPTY);
        if !self.has(Mechanism::FenceInSink) {
            state.sink.generation = state.buffer.generation;
        }
        state.ghost.forgiven = state.ghost.acknowledged;
        Some(Done)
    }
}

/// A batch is committed.
fn land(state: &mut State, batch: Batch) {
    if batch.record < state.sink.row && state.sink.row > state.ghost.forgiven {
        state.ghost.flag(Breach::WentBack);
    }
    if batch.generation < state.sink.generation {
        state.ghost.flag(Breach::StaleCommit);
    }
    state.sink.row = batch.record;
}

/// A read ends with this state.
fn answer(state: &mut State, seen: Record, since: Record) {
    if seen < since && since > state.ghost.forgiven {
        state.ghost.flag(Breach::StaleRead);
    }
}
