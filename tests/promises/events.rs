//! What an engine says: the events of this thread.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Id, Level, Metadata, Subscriber};
use write_behind::testing::ScriptedSink;
use write_behind::{Engine, EntityOptions, MemoryBuffer};

use crate::account::Account;

/// Warnings and errors that were heard; clones hear the same.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<(Level, String)>>>);

impl Events {
    /// Hears what this thread says until the guard is dropped.
    pub(crate) fn listen(&self) -> DefaultGuard {
        tracing::subscriber::set_default(Ear(self.clone()))
    }

    fn heard(&self) -> MutexGuard<'_, Vec<(Level, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was one of this text, in its message or in a field.
    pub(crate) fn have(&self, text: &str) -> bool {
        self.heard().iter().any(|(_, said)| said.contains(text))
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.heard().iter().map(|(level, said)| format!("{level} {said}")).collect()
    }
}

struct Ear(Events);

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        // Writing to a string does not fail.
        _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target().starts_with("wb_")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        self.0.heard().push((*event.metadata().level(), words.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn p11_an_engine_dropped_without_shutdown_warns() {
    let events = Events::default();
    let _guard = events.listen();
    let start =
        || Engine::builder(MemoryBuffer::new()).entity::<Account>(ScriptedSink::new(), EntityOptions::new()).start();
    start().await.unwrap().shutdown(Duration::from_secs(5)).await.unwrap();
    assert!(!events.have("dropped without shutdown"), "{:?}", events.all());
    drop(start().await.unwrap());
    assert!(events.have("dropped without shutdown"), "{:?}", events.all());
}
