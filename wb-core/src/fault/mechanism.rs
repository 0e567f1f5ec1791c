//! Switches that take one mechanism out of the flow, so that a test can see the promise break that rests on it. Only
//! builds with the feature `testing` can set one.

/// A mechanism that a promise rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// A closed epoch takes no more writes. Without it, a write of a key that is being flushed lands in `flushing`.
    ClosedEpochs,
    /// A record leaves the buffer after the sink has committed it. Without it, it is removed before it is written.
    CommitFirst,
    /// Batches carry fences, and a worker stops when its right is gone. Without it, neither is looked at.
    Fence,
    /// A step looks whether lease and epoch are still the caller's. Without it, it does what it is told.
    AckCheck,
    /// What is dirty has no TTL. Without it, `open` expires.
    NoTtl,
    /// A record goes back to `open` only where no newer state is. Without it, it overwrites.
    BackIfAbsent,
    /// Readers look in the order in which records move. Without it, they look the other way round.
    ReadOrder,
    /// Parents are written before their children, and deleted after them. Without it, nobody waits for anybody.
    Order,
    /// A lease has no TTL. Without it, a full Redis may evict it.
    LeaseWithoutTtl,
    /// Nothing is read through a new connection to the buffer before it was looked at whose data it leads to. Without it,
    /// readers and changes go on at once.
    VerifiedConnection,
    /// A layout that is left is sealed. Without it, what programs of that layout still write is taken, where nobody reads.
    Seal,
    /// What transactions have written carries their marks, and batches are never split in the middle of them. Without it,
    /// the marks are not looked at.
    Marks,
    /// A partition that cannot be used costs itself alone. Without it, the look at what is dirty fails for all.
    PartitionsApart,
    /// A loaded copy says which shape loaded it, and counts as absent for a program whose struct has more fields. Without it,
    /// every copy is good enough.
    CopyLoaders,
    /// What a closed epoch lost without a step is known by its counts. Without it, it counts as flushed.
    VanishedCounts,
    /// Where the counter of ids may have forgotten blocks, many are left out. Without it, ids go on above the sink's highest key.
    IdLeap,
}

/// The mechanisms that are switched off; none outside of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    #[cfg(feature = "testing")]
    without: u32,
}

impl Sabotage {
    /// Everything is as it should be.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            #[cfg(feature = "testing")]
            without: 0,
        }
    }

    /// The same without `mechanism`.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn without(self, mechanism: Mechanism) -> Self {
        Self { without: self.without | 1 << mechanism as u32 }
    }

    /// Whether `mechanism` is switched off.
    #[must_use]
    pub const fn lacks(self, mechanism: Mechanism) -> bool {
        #[cfg(feature = "testing")]
        {
            self.without & (1 << mechanism as u32) != 0
        }
        #[cfg(not(feature = "testing"))]
        {
            _ = mechanism;
            false
        }
    }
}
