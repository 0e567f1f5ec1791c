//! A worker: the task that keeps its lease, and the task that takes what is dirty through the flow.

use crate::buffer::Record;
use crate::sink::Batch;

/// One of the two workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The first.
    A,
    /// The second.
    B,
}

impl Who {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What a worker believes about its lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// That it has none.
    #[default]
    Lost,
    /// That it has one, and that the sink has not fenced it yet.
    Taken,
    /// That it may flush, with this generation.
    Right(u8),
}

/// A record of a closed epoch, and the right by which it is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// Generation of the right; 0 for none (without [`Mechanism::FenceFirst`](crate::Mechanism)).
    pub right: u8,
    /// Number of the epoch.
    pub epoch: u8,
    /// The state.
    pub record: Record,
}

impl Claim {
    pub(crate) const fn batch(self) -> Batch {
        Batch { generation: self.right, record: self.record }
    }
}

/// Where a worker stands in its flush cycle. The step that comes next may come at once, much later (the worker is
/// paused), or never (it crashes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cycle {
    /// Between cycles.
    #[default]
    Idle,
    /// It has looked by which right it works.
    Begun(u8),
    /// It has an epoch to flush.
    Closed {
        /// The right it began with.
        right: u8,
        /// Number of the epoch.
        epoch: u8,
    },
    /// It has read the record.
    Claimed(Claim),
    /// The sink has let its transaction pass the fence.
    Writing(Claim),
    /// The sink has committed.
    Written(Claim),
    /// The sink has refused the record.
    Refused(Claim),
}

/// A worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Worker {
    /// What its lease keeper believes.
    pub term: Term,
    /// What its flush cycle does.
    pub cycle: Cycle,
}

impl Worker {
    /// `Leases::forget`: a right that turned out to be void is given up, if it is still the one it has.
    pub(crate) fn forget(&mut self, right: u8) {
        if self.term == Term::Right(right) {
            self.term = Term::Lost;
        }
    }

    /// The generations that the worker holds, to be renamed.
    pub(crate) fn generations(&mut self) -> impl Iterator<Item = &mut u8> {
        let term = match &mut self.term {
            Term::Right(generation) => Some(generation),
            Term::Lost | Term::Taken => None,
        };
        let cycle = match &mut self.cycle {
            Cycle::Idle => None,
            Cycle::Begun(right) | Cycle::Closed { right, .. } => Some(right),
            Cycle::Claimed(claim) | Cycle::Writing(claim) | Cycle::Written(claim) | Cycle::Refused(claim) => {
                Some(&mut claim.right)
            }
        };
        term.into_iter().chain(cycle)
    }

    /// The epoch that it works on, to be renamed.
    pub(crate) fn epoch(&mut self) -> Option<&mut u8> {
        match &mut self.cycle {
            Cycle::Idle | Cycle::Begun(_) => None,
            Cycle::Closed { epoch, .. } => Some(epoch),
            Cycle::Claimed(claim) | Cycle::Writing(claim) | Cycle::Written(claim) | Cycle::Refused(claim) => {
                Some(&mut claim.epoch)
            }
        }
    }
}
