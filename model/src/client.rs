//! Those who use the cache: a reader and an updater (`get.rs`, `load.rs`).

use crate::buffer::{Copy, Loader, Record};
use crate::mechanism::Mechanism;
use crate::protocol::{Done, Protocol};
use crate::state::{Breach, State};

/// A place where a lookup looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `open`
    Open,
    /// `flushing`
    Flushing,
    /// `r:<id>`
    Copy,
}

/// A read of the key. Its three looks are one pipeline, but not one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader {
    /// Between reads.
    #[default]
    Idle,
    /// It looks into the place of this number next.
    Looking {
        /// How many places were empty.
        looked: u8,
        /// The last write that was acknowledged when the read began: it must not see anything older.
        since: Record,
    },
    /// It found nothing.
    Missed {
        /// As above.
        since: Record,
    },
    /// It asks the sink.
    Loading {
        /// As above.
        since: Record,
        /// Whether it will fill in what it finds.
        fill: bool,
    },
    /// It has an answer, and fills it in.
    Filling {
        /// The answer.
        loaded: Record,
    },
}

/// An update by compare-and-set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Updater {
    /// Between updates.
    #[default]
    Idle,
    /// It asks the sink for a state to compare with.
    Loading,
    /// It fills that state in.
    Filling {
        /// The state.
        loaded: Record,
    },
    /// It has computed a new state from this one.
    Computed {
        /// The state it was computed from.
        from: Record,
        /// Whether the state was nowhere in the buffer (without [`Mechanism::Anchor`](crate::Mechanism)).
        absent: bool,
    },
}

impl Protocol {
    pub(crate) fn read(&self, state: &mut State) -> Option<Done> {
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

    pub(crate) fn look(&self, state: &mut State) -> Option<Done> {
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

    pub(crate) fn leave_token(&self, state: &mut State) -> Option<Done> {
        let Reader::Missed { since } = state.reader else { return None };
        state.reader = if !self.has(Mechanism::LoadToken) || state.buffer.token(Loader::Reader) {
            Reader::Loading { since, fill: true }
        } else {
            Reader::Looking { looked: 0, since }
        };
        Some(Done)
    }

    pub(crate) fn load(state: &mut State) -> Option<Done> {
        let Reader::Loading { since, fill } = state.reader else { return None };
        let loaded = state.sink.row;
        answer(state, loaded, since);
        state.reader = if fill { Reader::Filling { loaded } } else { Reader::Idle };
        Some(Done)
    }

    pub(crate) fn fill(&self, state: &mut State) -> Option<Done> {
        let Reader::Filling { loaded } = state.reader else { return None };
        if self.has(Mechanism::LoadToken) {
            state.buffer.fill(Loader::Reader, loaded, self.bounds.copies);
        } else if self.bounds.copies && state.buffer.copy == Copy::Absent {
            state.buffer.copy = Copy::Expiring(loaded);
        }
        state.reader = Reader::Idle;
        Some(Done)
    }

    pub(crate) fn update_look(&self, state: &mut State) -> Option<Done> {
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

    pub(crate) fn update_load(&self, state: &mut State) -> Option<Done> {
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

    pub(crate) fn update_anchor(state: &mut State) -> Option<Done> {
        let Updater::Filling { loaded } = state.updater else { return None };
        state.updater = if state.buffer.fill(Loader::Updater, loaded, true) {
            Updater::Computed { from: loaded, absent: false }
        } else {
            Updater::Idle
        };
        Some(Done)
    }

    pub(crate) fn update_set(&self, state: &mut State) -> Option<Done> {
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
}

/// A read ends with this state.
fn answer(state: &mut State, seen: Record, since: Record) {
    if seen < since && since > state.ghost.forgiven {
        state.ghost.flag(Breach::StaleRead);
    }
}
