//! One key of one partition in Redis, and the scripts that touch it: `wb-core/src/buffer/redis/lua/`.

use crate::mechanism::{Mechanism, Without};
use crate::worker::Who;

/// A state of the key, by the number of the write that made it. Odd ones are rows, even ones are deletes; 0 is the
/// state before the first write: no row. Only ghosts (what properties look at) compare numbers; the protocol never
/// does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record(pub u8);

impl Record {
    /// No row, before anything was written.
    pub const NONE: Self = Self(0);

    /// Whether the state is "no row".
    #[must_use]
    pub const fn is_tombstone(self) -> bool {
        self.0.is_multiple_of(2)
    }

    /// The write after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Who loads a state from the sink to fill it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loader {
    /// A reader.
    Reader,
    /// A compare-and-set that needs something to compare with.
    Updater,
}

/// What stands at `r:<id>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Copy {
    /// Nothing.
    Absent,
    /// A load token.
    Token(Loader),
    /// A state that may expire at any time.
    Expiring(Record),
    /// A state without TTL.
    Pinned(Record),
}

impl Copy {
    /// The state that a reader finds here.
    #[must_use]
    pub const fn record(self) -> Option<Record> {
        match self {
            Self::Expiring(record) | Self::Pinned(record) => Some(record),
            Self::Absent | Self::Token(_) => None,
        }
    }
}

/// What Redis holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Buffer {
    /// `open`.
    pub open: Option<Record>,
    /// `flushing`.
    pub flushing: Option<Record>,
    /// `r:<id>`.
    pub copy: Copy,
    /// `dead`.
    pub dead: Option<Record>,
    /// Epochs closed so far: `open` of `meta`, less one.
    pub closed: u8,
    /// Whose call of `rotate` was the last; kept only where epochs are stamped, see
    /// [`Bounds::stamps`](crate::Bounds::stamps).
    pub stamp: Option<Who>,
    /// `lease`.
    pub lease: Option<Who>,
    /// Generations issued, where they are counted here (without [`Mechanism::FenceInSink`]).
    pub generation: u8,
}

impl Buffer {
    /// Nothing.
    pub const EMPTY: Self = Self {
        open: None,
        flushing: None,
        copy: Copy::Absent,
        dead: None,
        closed: 0,
        stamp: None,
        lease: None,
        generation: 0,
    };

    /// HSET (with [`Mechanism::ClosedEpochs`], always into `open`).
    pub(crate) fn put(&mut self, record: Record, without: Without) {
        if record.is_tombstone() && !without.has(Mechanism::Tombstones) {
            (self.open, self.flushing, self.copy) = (None, None, Copy::Absent);
        } else if self.flushing.is_some() && !without.has(Mechanism::ClosedEpochs) {
            self.flushing = Some(record);
        } else {
            self.open = Some(record);
        }
    }

    /// `take.lua`
    pub(crate) fn take(&mut self, who: Who) -> bool {
        let mine = self.lease.is_none_or(|holder| holder == who);
        if mine {
            self.lease = Some(who);
        }
        mine
    }

    /// `rotate.lua`: the number of the epoch that is to be flushed.
    pub(crate) fn rotate(&mut self, who: Who, stamps: bool, without: Without) -> Rotation {
        if self.lease != Some(who) && without.has(Mechanism::RotateLease) {
            return Rotation::NotOwner;
        }
        if self.flushing.is_none() {
            if self.open.is_none() {
                return Rotation::Empty;
            }
            self.flushing = self.open.take();
            self.closed += 1;
        }
        self.stamp = stamps.then_some(who);
        Rotation::Epoch(self.closed)
    }

    /// `holds` of `step.lua`
    pub(crate) fn holds(&self, who: Who, epoch: u8, stamps: bool, without: Without) -> bool {
        (self.lease == Some(who) || !without.has(Mechanism::StepLease))
            && (self.closed == epoch || !without.has(Mechanism::StepEpoch))
            && (self.stamp == Some(who) || !stamps)
    }

    /// `ack.lua`, after `holds`: what was taken out.
    pub(crate) fn ack(&mut self, copies: bool, without: Without) -> Option<Record> {
        let record = self.flushing.take()?;
        if without.has(Mechanism::AckClearsCopy) {
            self.copy = if copies { Copy::Expiring(record) } else { Copy::Absent };
        }
        if without.has(Mechanism::AckClearsLetter) {
            self.dead = None;
        }
        Some(record)
    }

    /// `back.lua`, after `holds`
    pub(crate) fn back(&mut self, without: Without) {
        let Some(record) = self.flushing.take() else { return };
        self.leave(record, without);
        if self.open.is_none() || !without.has(Mechanism::BackIfAbsent) {
            self.open = Some(record);
        }
    }

    /// `bury.lua`, after `holds`. The letter holds the record that was claimed.
    pub(crate) fn bury(&mut self, claimed: Record, without: Without) {
        let Some(record) = self.flushing.take() else { return };
        self.leave(record, without);
        self.dead = Some(claimed);
    }

    fn leave(&mut self, record: Record, without: Without) {
        if without.has(Mechanism::CopyLeftBehind) {
            self.copy = if without.has(Mechanism::CopyPinned) { Copy::Pinned(record) } else { Copy::Expiring(record) };
        }
    }

    /// A dead letter goes back to `open`, for another try.
    pub(crate) fn replay(&mut self, without: Without) -> bool {
        let superseded = self.open.is_some() || self.flushing.is_some() && without.has(Mechanism::ReplayCheck);
        if superseded || self.dead.is_none() {
            return false;
        }
        self.open = self.dead.take();
        true
    }

    /// `SET NX` of a load token.
    pub(crate) fn token(&mut self, loader: Loader) -> bool {
        let free = self.copy == Copy::Absent;
        if free {
            self.copy = Copy::Token(loader);
        }
        free
    }

    /// `fill.lua`. An anchor is kept for seconds even where copies are switched off.
    pub(crate) fn fill(&mut self, loader: Loader, loaded: Record, keep: bool) -> bool {
        let stands = self.copy == Copy::Token(loader);
        if stands {
            self.copy = if keep { Copy::Expiring(loaded) } else { Copy::Absent };
        }
        stands
    }

    /// What will be the sink's last state when all is flushed, or what waits for a person.
    #[must_use]
    pub fn latest(&self) -> Option<Record> {
        self.open.or(self.flushing).or(self.dead)
    }

    /// What a lookup finds.
    #[must_use]
    pub fn visible(&self) -> Option<Record> {
        self.open.or(self.flushing).or(self.copy.record())
    }
}

/// What a rotation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    Epoch(u8),
    Empty,
    NotOwner,
}
