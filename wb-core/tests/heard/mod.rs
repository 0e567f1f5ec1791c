//! Listens to events, so that a test can say what an operator is told.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// What was said on this thread since [`listen`].
#[derive(Clone, Default)]
pub(crate) struct Heard {
    counts: Arc<Mutex<BTreeMap<(Level, String), usize>>>,
}

impl Heard {
    /// How often an event was said, whatever its fields.
    pub(crate) fn count(&self, level: Level, message: &str) -> usize {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&(level, message.to_owned())).copied().unwrap_or(0)
    }
}

/// Listens until the guard is dropped.
pub(crate) fn listen() -> (Heard, DefaultGuard) {
    let heard = Heard::default();
    let guard = tracing::subscriber::set_default(Ear(heard.clone()));
    // With one listener in the process, what another thread says first is taken for unheard by all: tracing asks only whether that
    // thread listens. With two it asks both.
    drop(tracing::Dispatch::new(Ear(Heard::default())));
    (heard, guard)
}

struct Ear(Heard);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Ear {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((*event.metadata().level(), message.0)).or_default() += 1;
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
