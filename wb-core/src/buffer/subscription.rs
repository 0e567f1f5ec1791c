//! What the processes that share an entity tell each other beside its records: wishes for a flush, and which ids were
//! written. A signal may be lost; nothing is lost with it.

use std::fmt;
use std::sync::Arc;

use crate::entity::key::Id;

/// Decoded values that a process keeps beside the buffer, and what it hears about them.
pub trait NearCopies: fmt::Debug + Send + Sync + 'static {
    /// The state of this id has changed, or is about to.
    fn forget(&self, id: &Id);

    /// Signals may have been missed, or may be from now on: nothing that is kept may be served until
    /// [`hears`](Self::hears).
    fn is_deaf(&self);

    /// From now on no signal is missed.
    fn hears(&self);
}

/// What an engine listens for, of one entity.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Ear {
    /// It flushes: a nudge wakes it, by the pressure of its registration.
    pub nudges: bool,
    /// What it keeps beside the buffer. Where there is something, its writes say which ids they are of, too.
    pub near: Option<Arc<dyn NearCopies>>,
}

impl Ear {
    /// Whether there is anything to listen for.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.nudges || self.near.is_some()
    }
}
