//! Whose records these are, and who is told of them.

use crate::telemetry::event::{Event, Listeners};

/// Whose records these are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Scope {
    /// The engine's namespace.
    pub namespace: String,
    /// The entity's name.
    pub entity: &'static str,
    /// Number of partitions of the entity.
    pub partitions: u16,
    /// Who is told what happens to them.
    listeners: Listeners,
}

impl Scope {
    /// A scope; for tests of sinks.
    #[must_use]
    pub fn new(namespace: impl Into<String>, entity: &'static str, partitions: u16) -> Self {
        Self { namespace: namespace.into(), entity, partitions, listeners: Listeners::default() }
    }

    pub(crate) fn with_listeners(self, listeners: Listeners) -> Self {
        Self { listeners, ..self }
    }

    /// Tells an event to whoever listens to the engine.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        self.listeners.tell(event);
    }
}
