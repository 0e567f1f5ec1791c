//! What the promises rest on, piece by piece, so that a test can take one piece away.

/// A piece of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mechanism {
    /// A closed epoch takes no more writes. Without it, a write of a key that is being flushed lands in `flushing`.
    ClosedEpochs,
    /// A record leaves `flushing` after the sink has committed it. Without it, claiming removes it.
    CommitFirst,
    /// What is dirty has no TTL. Without it, `open` may expire.
    NoTtl,
    /// A delete is a record like any other. Without it, a delete removes what the buffer holds of the key.
    Tombstones,
    /// The sink refuses a batch whose generation is not the newest. Without it, it takes whatever comes.
    Fence,
    /// The check of the generation locks it until the transaction ends, and a new fence waits for the lock. Without it,
    /// the check is a plain read.
    FenceLock,
    /// A batch whose end nobody has seen keeps its rows locked until it commits or is rolled back. Without it, it may
    /// commit after later batches.
    RowLock,
    /// Generations are counted in the sink. Without it, they are counted in the buffer, and are lost with it.
    FenceInSink,
    /// A partition is fenced before its epochs are closed and claimed. Without it, the fence may come after the claim.
    FenceFirst,
    /// A batch carries the right that its rotation had. Without it, it carries the right that the worker has now.
    RightOfRotation,
    /// A cycle ends when all its batches are settled. Without it, a worker may turn its back on a batch that is on its
    /// way, and begin the next cycle.
    Settle,
    /// `rotate` looks whether the lease is the caller's. Without it, anybody closes the open epoch.
    RotateLease,
    /// `ack`, `back` and `bury` look whether the lease is the caller's.
    StepLease,
    /// `ack`, `back` and `bury` look whether the epoch is still the one that the caller claimed.
    StepEpoch,
    /// `back` puts a record into `open` only where no newer state is. Without it, it overwrites.
    BackIfAbsent,
    /// `back` and `bury` leave the record as the clean copy. Without it, they leave the copy as it is.
    CopyLeftBehind,
    /// The copy that `back` and `bury` leave has no TTL. Without it, it may expire.
    CopyPinned,
    /// A loaded state is filled in only where the load's token still stands. Without it, wherever nothing stands.
    LoadToken,
    /// Readers look into `open` before `flushing`. Without it, into `flushing` first.
    OpenBeforeFlushing,
    /// Readers look at the clean copy last. Without it, first.
    CopyLast,
    /// A dead letter is replayed only if nothing of its key is in `open` or `flushing`. Without it, only `open` is
    /// looked at.
    ReplayCheck,
    /// `ack` leaves its own state as the clean copy, or nothing. Without it, it leaves what stands there: a load token, or
    /// an older state.
    AckClearsCopy,
    /// `ack` clears the dead letter of the key. Without it, an old letter outlives a newer state.
    AckClearsLetter,
    /// A compare-and-set finds the state that it was computed from in the buffer, if need be by filling it in first.
    /// Without it, "nothing there" passes for "unchanged".
    Anchor,
}

/// Pieces that are taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without(u32);

impl Without {
    /// Nothing is taken away.
    pub const NOTHING: Self = Self(0);

    /// This, and `mechanism`, are taken away.
    #[must_use]
    pub const fn and(self, mechanism: Mechanism) -> Self {
        Self(self.0 | 1 << mechanism as u32)
    }

    /// Whether `mechanism` is there.
    #[must_use]
    pub const fn has(self, mechanism: Mechanism) -> bool {
        self.0 & (1 << mechanism as u32) == 0
    }
}
