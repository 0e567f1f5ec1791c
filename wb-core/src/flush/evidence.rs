//! Whose fault a refusal is that may be the record's or the configuration's: it is the record's when others land while it is
//! refused. Values and clock readings, no decisions of their own.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// What is done to a row. Each is judged by itself: a right to delete says nothing about inserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Upsert,
    Delete,
}

/// The newest write of each verb that landed.
#[derive(Debug, Default)]
pub(crate) struct Evidence(Mutex<Landed>);

#[derive(Clone, Copy, Debug, Default)]
struct Landed {
    upserts: Option<Instant>,
    deletes: Option<Instant>,
}

impl Landed {
    const fn of(&mut self, verb: Verb) -> &mut Option<Instant> {
        match verb {
            Verb::Upsert => &mut self.upserts,
            Verb::Delete => &mut self.deletes,
        }
    }
}

impl Evidence {
    /// Rows of a write landed that was begun then.
    pub(crate) fn landed(&self, verb: Verb, begun: Instant) {
        let mut landed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = landed.of(verb);
        *newest = Some(newest.map_or(begun, |newest| newest.max(begun)));
    }

    /// Whether rows landed of the write that was begun at `refused`, or of a later one. When the database took its rows is
    /// between its begin and its answer, so one that was begun before the refused one proves nothing.
    pub(crate) fn acquits_configuration(&self, verb: Verb, refused: Instant) -> bool {
        let mut landed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        landed.of(verb).is_some_and(|newest| newest >= refused)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_same_write_or_a_later_one_of_the_same_verb_proves_anything() {
        let evidence = Evidence::default();
        let first = Instant::now();
        let later = first + Duration::from_secs(1);
        assert!(!evidence.acquits_configuration(Verb::Upsert, first));
        evidence.landed(Verb::Upsert, first);
        assert!(evidence.acquits_configuration(Verb::Upsert, first), "of the same write");
        assert!(!evidence.acquits_configuration(Verb::Upsert, later), "begun before it was refused");
        assert!(!evidence.acquits_configuration(Verb::Delete, first));
        evidence.landed(Verb::Upsert, later);
        evidence.landed(Verb::Upsert, first);
        assert!(evidence.acquits_configuration(Verb::Upsert, later), "answers come in any order");
    }
}
