//! Everything that there is at one instant.

use crate::buffer::{Buffer, Record};
use crate::client::{Reader, Updater};
use crate::protocol::Bounds;
use crate::sink::Sink;
use crate::worker::{Cycle, Who, Worker};

/// What was done that must never be done; a promise is kept while its flag is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Breach {
    /// The row was overwritten by an older state.
    WentBack,
    /// A batch of an older generation was committed.
    StaleCommit,
    /// An ack removed a state that its worker had not written.
    ClearedNewer,
    /// A read saw a state older than the last write that was acknowledged before it began.
    StaleRead,
    /// An update replaced a state other than the one that it was computed from.
    LostUpdate,
}

/// What the promises are measured by. The protocol does not see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ghost {
    /// The last write that was acknowledged.
    pub acknowledged: Record,
    /// The last write that was acknowledged before Redis lost data: promises hold for what is newer.
    pub forgiven: Record,
    breaches: u8,
}

impl Ghost {
    pub(crate) fn flag(&mut self, breach: Breach) {
        self.breaches |= 1 << breach as u8;
    }

    /// Whether this was done.
    #[must_use]
    pub const fn has(&self, breach: Breach) -> bool {
        self.breaches & (1 << breach as u8) != 0
    }
}

/// A state of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// Redis.
    pub buffer: Buffer,
    /// What Redis would come back with: its last save, or the replica that takes over.
    pub saved: Option<Buffer>,
    /// The database.
    pub sink: Sink,
    /// One worker.
    pub a: Worker,
    /// Another.
    pub b: Worker,
    /// A reader.
    pub reader: Reader,
    /// An updater.
    pub updater: Updater,
    /// Refusals that the sink still has in it.
    pub refusals: u8,
    /// Times that Redis will still lose data.
    pub losses: u8,
    /// What properties look at.
    pub ghost: Ghost,
}

impl State {
    pub(crate) fn first(bounds: &Bounds) -> Self {
        Self {
            buffer: Buffer::EMPTY,
            saved: None,
            sink: Sink::default(),
            a: Worker::default(),
            b: Worker::default(),
            reader: Reader::Idle,
            updater: Updater::Idle,
            refusals: bounds.refusals,
            losses: bounds.losses,
            ghost: Ghost::default(),
        }
    }

    /// A worker.
    #[must_use]
    pub const fn worker(&self, who: Who) -> &Worker {
        match who {
            Who::A => &self.a,
            Who::B => &self.b,
        }
    }

    pub(crate) const fn worker_mut(&mut self, who: Who) -> &mut Worker {
        match who {
            Who::A => &mut self.a,
            Who::B => &mut self.b,
        }
    }

    /// What the sink will hold when all is flushed, or what waits for a person as a dead letter.
    #[must_use]
    pub fn latest(&self) -> Record {
        self.buffer.latest().unwrap_or(self.sink.row)
    }

    /// Whether a worker's transaction is open.
    pub(crate) fn writing(&self) -> bool {
        Who::ALL.into_iter().any(|who| matches!(self.worker(who).cycle, Cycle::Writing(_)))
    }

    /// The one state that stands for all that differ in nothing but names: which worker is called A, and which numbers
    /// generations (and, where Redis keeps its data, epochs) have. Of those only "the current one" and "an older one"
    /// mean anything: what is outdated is never current again.
    pub(crate) fn canonical(mut self) -> Self {
        const OLD: u8 = 1;
        const CURRENT: u8 = 2;
        let current = self.sink.generation;
        let rename = |number: &mut u8, current: u8| {
            if *number != 0 {
                *number = if *number == current { CURRENT } else { OLD };
            }
        };
        let batches = self.sink.orphan.iter_mut().chain(&mut self.sink.late).map(|batch| &mut batch.generation);
        for generation in self.a.generations().chain(self.b.generations()).chain(batches) {
            rename(generation, current);
        }
        rename(&mut self.sink.generation, current);
        // An epoch from before a loss may come again, so there its number is kept.
        if self.losses == 0 && self.saved.is_none() && self.ghost.forgiven == Record::NONE {
            let current = self.buffer.closed;
            for epoch in self.a.epoch().into_iter().chain(self.b.epoch()).chain([&mut self.buffer.closed]) {
                rename(epoch, current);
            }
        }
        if self.b < self.a {
            std::mem::swap(&mut self.a, &mut self.b);
            let mut buffers = [Some(&mut self.buffer), self.saved.as_mut()];
            for buffer in buffers.iter_mut().flatten() {
                buffer.lease = buffer.lease.map(Who::other);
                buffer.stamp = buffer.stamp.map(Who::other);
            }
        }
        self
    }
}
