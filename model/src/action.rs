//! What can happen.

use crate::worker::Who;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A put or a delete is acknowledged.
    Put,
    /// A lease runs out.
    LeaseExpires,
    /// What has a TTL at `r:<id>` is gone.
    CopyExpires,
    /// `open` expires (without [`Mechanism::NoTtl`](crate::Mechanism::NoTtl)).
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
    /// A batch that its worker has turned its back on arrives (without
    /// [`Mechanism::Settle`](crate::Mechanism::Settle)).
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
    pub(crate) const WORLD: [Self; 7] = [
        Self::Put,
        Self::LeaseExpires,
        Self::CopyExpires,
        Self::OrphanCommits,
        Self::OrphanAborts,
        Self::Replay,
        Self::OpenExpires,
    ];
    pub(crate) const WORKER: [fn(Who) -> Self; 16] = [
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
    pub(crate) const READER: [Self; 6] =
        [Self::Read, Self::Look, Self::LeaveToken, Self::Load, Self::Fill, Self::GiveUp];
    pub(crate) const UPDATER: [Self; 4] = [Self::UpdateLook, Self::UpdateLoad, Self::UpdateAnchor, Self::UpdateSet];
}
