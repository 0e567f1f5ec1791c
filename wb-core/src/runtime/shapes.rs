//! Shapes: which fields the struct of an entity has, in this program and in newer ones that work on the same records.
//!
//! A worker of an older program decodes a record of a newer one, does not see the fields that it does not know, and would
//! write the row without them. So every process makes the shape of its struct known before it writes anything, and a worker
//! looks at what is known after each rotation: whoever wrote into a closed epoch is on the list by then.
//!
//! # How old the list may be, where it is used
//!
//! - A worker looks after each rotation, and a change after it has found a loaded state: what was known before is there.
//! - Which loaded copies can be read ([`Shapes::can_read`]) is asked of a look that is a second old: a digest says what a shape is, and one
//!   that is not on the list yet is loaded anew.
//! - A buffer that was emptied, or came back as it was some time ago, has lost shapes. Every process tells all that it has ever
//!   seen of the list, at the next look, which comes once a second. Until then the list is *young* ([`YOUNG`]): fields that nobody
//!   explains are left alone, and who has never seen an older list builds on no loaded state.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::record::Record;
use crate::buffer::{Origin, SeenShape, SeenShapes, Space, Stored, record};
use crate::error::buffer::BufferError;
use crate::fault::mechanism::{Mechanism, Sabotage};

/// How long a list is young: every process that is alive and reaches the buffer has told its shapes by then. It looks once a
/// second, and a tenth of a second after a failure, so these are five looks; one that cannot look does not write either.
pub(crate) const YOUNG: Duration = Duration::from_secs(5);

/// What a struct knows of its payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Fields of these names.
    Fields(BTreeSet<String>),
    /// That cannot be told: perhaps any field.
    Any,
}

impl Shape {
    pub(crate) fn new(fields: Option<&[&str]>) -> Self {
        fields.map_or(Self::Any, |fields| Self::Fields(fields.iter().map(|&name| name.to_owned()).collect()))
    }

    /// As the buffer keeps it: a sorted JSON list, or `*`.
    pub(crate) fn text(&self) -> String {
        match self {
            // Strings always have a JSON form.
            Self::Fields(names) => serde_json::to_string(names).unwrap_or_else(|_| ANY.to_owned()),
            Self::Any => ANY.to_owned(),
        }
    }

    /// What is no such text may be anything.
    fn parse(text: &str) -> Self {
        serde_json::from_str(text).map_or(Self::Any, Self::Fields)
    }

    fn knows(&self, name: &str) -> bool {
        match self {
            Self::Fields(names) => names.contains(name),
            Self::Any => true,
        }
    }

    /// Whether `other` surely knows all fields of this one.
    fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fields(own), Self::Fields(names)) => own.is_subset(names),
            _ => false,
        }
    }
}

const ANY: &str = "*";

/// Shapes that came after this program's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newer {
    own: Shape,
    shapes: Vec<Shape>,
}

impl Newer {
    /// Whether this field is one that only newer programs know.
    pub(crate) fn knows(&self, name: &str) -> bool {
        !self.own.knows(name) && self.shapes.iter().any(|shape| shape.knows(name))
    }

    /// Whether there are such fields at all.
    pub(crate) fn adds(&self) -> bool {
        self.adds_to(&self.own)
    }

    /// Whether there are such fields that `loader` does not know either.
    fn adds_to(&self, loader: &Shape) -> bool {
        let added = |shape: &Shape| match (&self.own, shape) {
            (Shape::Any, _) => false,
            (Shape::Fields(_), Shape::Any) => true,
            (Shape::Fields(own), Shape::Fields(names)) => {
                names.iter().any(|name| !own.contains(name) && !loader.knows(name))
            }
        };
        self.shapes.iter().any(added)
    }
}

/// What of `seen`, oldest first, is newer than `own`. An own shape that has fallen off the list is older than all.
fn newer(own: &Shape, seen: &[SeenShape]) -> Option<Newer> {
    let text = own.text();
    let after = seen.iter().position(|seen| seen.shape == text).map_or(0, |place| place + 1);
    let shapes: Vec<Shape> =
        seen.get(after..).unwrap_or_default().iter().map(|seen| Shape::parse(&seen.shape)).collect();
    (!shapes.is_empty()).then(|| Newer { own: own.clone(), shapes })
}

/// This program's shape of an entity, and what is known of others.
#[derive(Debug)]
pub(crate) struct Shapes {
    own: Shape,
    text: String,
    digest: u64,
    /// Whether it is made known.
    told: bool,
    /// When the own shape was first seen, in milliseconds by the buffer's clock; 0: not made known yet.
    since_ms: AtomicU64,
    tickets: AtomicU64,
    latest: Mutex<Latest>,
    /// Records were held back in this cycle, and in the one before.
    held: (AtomicBool, AtomicBool),
    sabotage: Sabotage,
}

#[derive(Debug, Default)]
struct Latest {
    ticket: u64,
    newer: Option<Arc<Newer>>,
    /// All that is on the list, by digest.
    listed: HashMap<u64, Shape>,
    /// The list as it was told.
    seen: Vec<SeenShape>,
    /// Until when the list is young.
    young: Option<Instant>,
    /// A list was seen once that was not young. What was on it is remembered.
    seen_ripe: bool,
}

/// Fields that this program leaves to others.
pub(crate) struct Foreign {
    newer: Option<Arc<Newer>>,
    /// While the list is young: all known shapes, this program's among them.
    known: Option<Vec<Shape>>,
}

impl Foreign {
    /// Whether this field is one of them.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.newer.as_ref().is_some_and(|newer| newer.knows(name))
            || self.known.as_ref().is_some_and(|known| !known.iter().any(|shape| shape.knows(name)))
    }
}

/// Whether a state lacks fields that newer programs know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacks {
    No,
    /// Not that anybody said so; who may have is asked again then.
    Perhaps(Instant),
    Yes,
}

impl Shapes {
    pub(crate) fn new(fields: Option<&[&str]>) -> Self {
        let own = Shape::new(fields);
        let text = own.text();
        let digest = record::digest(&[text.as_bytes()]);
        let since_ms = AtomicU64::new(0);
        let tickets = AtomicU64::new(0);
        Self {
            own,
            text,
            digest,
            told: true,
            since_ms,
            tickets,
            latest: Mutex::default(),
            held: Default::default(),
            sabotage: Sabotage::none(),
        }
    }

    /// The same for who writes nothing, and may end without having been seen: it is not made known. Where it is not known already it is
    /// newer than all.
    pub(crate) fn aside(fields: Option<&[&str]>) -> Self {
        Self { told: false, ..Self::new(fields) }
    }

    /// The same with what a test has switched off.
    pub(crate) fn sabotaged(self, sabotage: Sabotage) -> Self {
        Self { sabotage, ..self }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the own shape was first seen; 0 when the buffer does not say.
    pub(crate) fn since_ms(&self) -> u64 {
        self.since_ms.load(Ordering::Relaxed)
    }

    /// What newer programs know, as last looked at.
    pub(crate) fn newer(&self) -> Option<Arc<Newer>> {
        self.latest().newer.clone()
    }

    /// A state that this program has loaded.
    pub(crate) const fn loaded(&self, record: Record) -> Stored {
        Stored::loaded(record, self.digest)
    }

    /// Whether a state of this origin has all the fields of this program's struct. Digests say what a shape is, so an old
    /// list is harmless: a loader that is not on it is taken for one that knows less, and the state is loaded anew.
    pub(crate) fn can_read(&self, origin: Origin) -> bool {
        match origin {
            Origin::Written => true,
            Origin::Loaded { .. } if self.sabotage.lacks(Mechanism::CopyLoaders) => true,
            Origin::Loaded { shape } if shape == self.digest => true,
            Origin::Loaded { shape } => {
                self.latest().listed.get(&shape).is_some_and(|loader| self.own.is_within(loader))
            }
        }
    }

    /// Whether a state of this origin lacks fields which only newer programs know, as last looked at. What is built on it
    /// would be flushed without them by a newer worker.
    pub(crate) fn lack(&self, origin: Origin) -> Lacks {
        let Origin::Loaded { shape } = origin else { return Lacks::No };
        let latest = self.latest();
        let loader = latest.listed.get(&shape).filter(|_| shape != self.digest).unwrap_or(&self.own);
        if latest.newer.as_ref().is_some_and(|newer| newer.adds_to(loader)) {
            return Lacks::Yes;
        }
        let unknown = !latest.seen_ripe && self.own != Shape::Any;
        latest.young.filter(|&until| unknown && Instant::now() < until).map_or(Lacks::No, Lacks::Perhaps)
    }

    /// Whether the list was begun a moment ago.
    pub(crate) fn is_young(&self) -> bool {
        self.latest().young.is_some_and(|until| Instant::now() < until)
    }

    /// Fields that must be left to others, as last looked at; `None` when there are none.
    pub(crate) fn foreign(&self) -> Option<Foreign> {
        let young = self.is_young() && self.own != Shape::Any;
        let latest = self.latest();
        let newer = latest.newer.clone().filter(|newer| newer.adds());
        let known = young.then(|| latest.listed.values().cloned().chain([self.own.clone()]).collect());
        (newer.is_some() || young).then_some(Foreign { newer, known })
    }

    /// Makes the own shape known, where it is not, and looks at the others. Who asks later knows at least as much.
    pub(crate) async fn look(&self, space: &dyn Space) -> Result<(), BufferError> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.since_ms();
        // A buffer that has lost the list is told all of it, and when this shape was really first seen.
        let mut told = self.latest().seen.clone();
        if before > 0 && !told.iter().any(|seen| seen.shape == self.text) {
            told.push(SeenShape::new(self.text.clone(), before));
        }
        let SeenShapes { shapes: seen, age } =
            if self.told { space.shapes(&self.text, &told).await? } else { space.shapes("", &[]).await? };
        if before == 0
            && let Some(own) = seen.iter().find(|seen| seen.shape == self.text)
        {
            self.since_ms.store(own.since_ms, Ordering::Relaxed);
        }
        let is_newest = !self.told && !seen.iter().any(|seen| seen.shape == self.text);
        let newer = newer(&self.own, &seen).filter(|_| !is_newest).map(Arc::new);
        let mut latest = self.latest();
        // A look that began earlier may end later.
        if latest.ticket < ticket {
            let listed = seen.iter().map(|seen| (seen.digest(), Shape::parse(&seen.shape))).collect();
            let young = YOUNG.checked_sub(age).filter(|left| !left.is_zero()).map(|left| Instant::now() + left);
            let seen_ripe = latest.seen_ripe || young.is_none();
            *latest = Latest { ticket, newer, listed, seen, young, seen_ripe };
        }
        Ok(())
    }

    /// Records are held back. Returns whether that is news: none were in the cycle before, or so far in this one.
    pub(crate) fn hold(&self) -> bool {
        let (now, before) = &self.held;
        !now.swap(true, Ordering::Relaxed) && !before.load(Ordering::Relaxed)
    }

    /// A cycle is over. Returns whether records were held back until then, and are no more.
    pub(crate) fn cycle_over(&self) -> bool {
        let (now, before) = &self.held;
        let held = now.swap(false, Ordering::Relaxed);
        before.swap(held, Ordering::Relaxed) && !held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Buffer, MemoryBuffer, Registration};
    use crate::entity::codec::Format;
    use crate::telemetry::scope::Scope;

    fn seen(fields: &[&str]) -> SeenShape {
        SeenShape { shape: Shape::new(Some(fields)).text(), since_ms: 1 }
    }

    #[test]
    fn newer_shapes_are_those_that_came_later() {
        let (v1, v2, v3) = (["id", "old"], ["id", "old", "new"], ["newest", "new", "id"]);
        let all = [seen(&v1), seen(&v2), seen(&v3)];
        let of = |own: &[&str]| newer(&Shape::new(Some(own)), &all);
        let first = of(&v1).expect("two are newer");
        assert!(first.adds() && first.knows("new") && first.knows("newest"));
        assert!(!first.knows("old") && !first.knows("unheard of"));
        let second = of(&v2).expect("one is newer");
        assert!(second.knows("newest") && !second.knows("new"));
        assert_eq!(of(&v3), None);
        // Removed in the newest: nobody newer knows it.
        assert!(!of(&v2).is_some_and(|newer| newer.knows("old")));
        assert!(of(&["fallen", "off"]).is_some_and(|newer| newer.knows("old")), "older than all");
        assert_eq!(newer(&Shape::new(Some(&v1)), &[]), None, "a buffer that keeps no list");
    }

    #[test]
    fn what_cannot_be_told_may_be_anything() {
        let open = SeenShape { shape: ANY.to_owned(), since_ms: 2 };
        let named = Shape::new(Some(&["id"]));
        let found = newer(&named, &[seen(&["id"]), open.clone()]).expect("one is newer");
        assert!(found.adds() && found.knows("whatever") && !found.knows("id"));
        let found = newer(&Shape::Any, &[open, seen(&["id", "new"])]).expect("one is newer");
        assert!(!found.adds() && !found.knows("new"), "it knows all fields itself, for all that is known");
    }

    #[tokio::test]
    async fn a_loaded_state_is_read_by_who_knows_no_more_than_its_loader() -> Result<(), BufferError> {
        let buffer = MemoryBuffer::new();
        let scope = std::sync::Arc::new(Scope::new("test", "shaped", 1));
        let space = buffer.space(Registration::new(scope, Format::Json)).await?;
        let of = |fields: &[&str]| Shapes::new(Some(fields));
        let (v1, v2, v3, other) = (of(&["a"]), of(&["a", "b"]), of(&["a", "b", "c"]), of(&["a", "x"]));
        let all = [&v1, &v2, &v3, &other, &Shapes::new(None)];
        let by = |shapes: &Shapes| shapes.loaded(Record::from_bytes("{}")).origin;
        assert!(v1.can_read(by(&v1)) && !v1.can_read(by(&v2)), "nothing was looked at");
        for _ in 0..2 {
            for shapes in all {
                shapes.look(&*space).await?;
            }
        }
        let can_read = |reader: &Shapes| all.map(|loader| reader.can_read(by(loader)));
        assert_eq!(can_read(&v1), [true, true, true, true, false]);
        assert_eq!(can_read(&v2), [false, true, true, false, false]);
        assert_eq!(can_read(all[4]), [false, false, false, false, true]);
        assert!(v1.can_read(Origin::Written) && v1.loaded(Record::tombstone()).origin == Origin::Written);
        // The last one on the list may know any field.
        let lack = |shapes: &Shapes| all.map(|loader| shapes.lack(by(loader)));
        assert_eq!((lack(&v1), lack(all[4])), ([Lacks::Yes; 5], [Lacks::No; 5]));
        assert_eq!(v1.lack(Origin::Written), Lacks::No);
        Ok(())
    }

    #[test]
    fn what_newer_programs_add_to_a_loaded_state() {
        let own = Shape::new(Some(&["a"]));
        let all = [seen(&["a"]), seen(&["a", "b"]), seen(&["a", "b", "c"])];
        let newer = newer(&own, &all).expect("two are newer");
        let adds_to = |loader: &[&str]| newer.adds_to(&Shape::new(Some(loader)));
        assert!(adds_to(&["a"]) && adds_to(&["a", "b"]) && !adds_to(&["a", "b", "c"]));
    }

    #[test]
    fn a_pause_is_told_once() {
        let shapes = Shapes::new(Some(&["id"]));
        assert!(!shapes.cycle_over());
        assert!(shapes.hold());
        assert!(!shapes.hold(), "the same cycle");
        assert!(!shapes.cycle_over());
        assert!(!shapes.hold(), "the next one");
        assert!(!shapes.cycle_over());
        assert!(shapes.cycle_over(), "over");
        assert!(!shapes.cycle_over(), "said already");
        assert!(shapes.hold(), "another one");
    }
}
