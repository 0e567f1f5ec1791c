//! Entities of one engine that refer to each other by foreign keys: who is written before whom, and deleted after whom.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::buffer::Held;
use crate::error::ConfigError;
use crate::error::buffer::BufferError;
use crate::error::finding::Finding;
use crate::runtime::context::{Dirty, EpochOf};

/// The entities that an entity refers to, and those that refer to it; itself is neither. Weak, because an entity of an
/// engine that is over has nobody to wait for.
#[derive(Default)]
pub(crate) struct Relations(OnceLock<Relatives>);

#[derive(Default)]
struct Relatives {
    parents: Vec<Weak<dyn Relative>>,
    children: Vec<Weak<dyn Relative>>,
}

/// What an entity is to the others of its engine.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) parents: &'static [&'static str],
    pub(crate) entity: Weak<dyn Relative>,
}

impl Relations {
    /// Finds the relatives of entity `name`; once, before anything is flushed.
    pub(crate) fn link(&self, name: &str, parents: &[&str], all: &[Member]) {
        let others = || all.iter().filter(|other| other.name != name);
        let relatives = Relatives {
            parents: others().filter(|other| parents.contains(&other.name)).map(|other| other.entity.clone()).collect(),
            children: others()
                .filter(|other| other.parents.contains(&name))
                .map(|other| other.entity.clone())
                .collect(),
        };
        let _ = self.0.set(relatives);
    }

    pub(crate) fn parents(&self) -> impl Iterator<Item = Arc<dyn Relative>> {
        self.0.get().map(|kin| kin.parents.as_slice()).unwrap_or_default().iter().filter_map(Weak::upgrade)
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = Arc<dyn Relative>> {
        self.0.get().map(|kin| kin.children.as_slice()).unwrap_or_default().iter().filter_map(Weak::upgrade)
    }

    pub(crate) fn has_parents(&self) -> bool {
        self.0.get().is_some_and(|kin| !kin.parents.is_empty())
    }

    pub(crate) fn has_children(&self) -> bool {
        self.0.get().is_some_and(|kin| !kin.children.is_empty())
    }
}

/// An entity as its parents and children see it, whatever its type. All questions are about all partitions, whoever
/// flushes them.
#[async_trait]
pub(crate) trait Relative: Send + Sync {
    /// Asks this process's worker to flush now.
    fn nudge(&self);
    /// Something of a child was flushed: deletes that are held here may have waited for it.
    fn child_flushed(&self);
    /// Changes at the end of each flush cycle of this process.
    fn cycles(&self) -> watch::Receiver<u64>;
    /// Whether deletes of this entity may be held.
    fn holds_deletes(&self) -> bool;
    /// The epochs that hold everything that is dirty now, and the partitions of which nobody can say it.
    async fn dirty_now(&self) -> Result<Dirty, BufferError>;
    /// The same of these partitions.
    async fn dirty_in(&self, partitions: &[u16]) -> Result<Dirty, BufferError>;
    /// Which of these epochs are not flushed yet. What a buffer has lost is not waited for.
    async fn unflushed(&self, epochs: Vec<EpochOf>) -> Result<Vec<EpochOf>, BufferError>;
    /// Deletes that are held in these partitions.
    async fn held(&self, partitions: &[u16]) -> Result<Vec<Held>, BufferError>;
    /// Whether any rows are held back that are to be written: by a lock, or for a newer program.
    async fn holds_rows(&self) -> Result<bool, BufferError>;
    /// Which of these deletes are still held.
    async fn still_held(&self, held: Vec<Held>) -> Result<Vec<Held>, BufferError>;
}

/// What is known of entities before they are opened: name, and names of the parents.
type Family<'a> = &'a [(&'static str, &'static [&'static str])];

/// Refuses entities that would have to wait for each other. One that refers to itself does not.
pub(crate) fn check(family: Family<'_>) -> Result<(), ConfigError> {
    let parents_of =
        |name: &str| family.iter().find(|(other, _)| *other == name).map_or(&[][..], |(_, parents)| parents);
    for &(name, _) in family {
        // Depth first; `path` leads from `name` to where the walk is.
        let mut path = vec![name];
        let mut seen = vec![name];
        let mut left: Vec<Vec<&'static str>> = vec![parents_of(name).to_vec()];
        while let Some(next) = left.last_mut().map(Vec::pop) {
            let here = path.last().copied().unwrap_or(name);
            match next {
                None => {
                    left.pop();
                    path.pop();
                }
                Some(parent) if parent == here => {}
                Some(parent) if parent == name => {
                    path.push(name);
                    return Err(ConfigError::Circle { entities: path.join("` → `") });
                }
                Some(parent) if seen.contains(&parent) => {}
                Some(parent) => {
                    seen.push(parent);
                    path.push(parent);
                    left.push(parents_of(parent).to_vec());
                }
            }
        }
    }
    Ok(())
}

/// A warning for each parent that is not in the engine.
pub(crate) fn absent(family: Family<'_>) -> Vec<Finding> {
    let known = |parent: &str| family.iter().any(|(name, _)| *name == parent);
    let missing = family.iter().flat_map(|(name, parents)| parents.iter().map(move |parent| (*name, *parent)));
    let missing = missing.filter(|(_, parent)| !known(parent));
    let finding = |(name, parent)| {
        let text = format!(
            "it belongs to entity `{parent}`, which this engine does not have: nothing waits for its rows, and a row \
             whose parent is not in the sink yet is tried again until the policy's deferrals are used up; add entity \
             `{parent}` to this engine"
        );
        Finding::warning("parent-elsewhere", format!("entity `{name}`"), text)
    };
    missing.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_refused_and_trees_are_not() {
        let circle = |family: Family<'_>| match check(family) {
            Err(ConfigError::Circle { entities }) => Some(entities),
            _ => None,
        };
        assert_eq!(circle(&[("a", &[]), ("b", &["a"]), ("c", &["a", "b"]), ("d", &["b", "c", "elsewhere"])]), None);
        assert_eq!(circle(&[("tree", &["tree"])]), None, "a row that refers to its own kind");
        assert_eq!(circle(&[("a", &["b"]), ("b", &["a"])]).as_deref(), Some("a` → `b` → `a"));
        let far = circle(&[("x", &["a"]), ("a", &["a", "b"]), ("b", &["c"]), ("c", &["a"])]);
        assert_eq!(far.as_deref(), Some("a` → `b` → `c` → `a"), "behind one that is in no circle");
    }

    #[test]
    fn a_parent_that_is_elsewhere_is_found() {
        let found = absent(&[("post", &[]), ("comment", &["post", "author"])]);
        assert_eq!(found.len(), 1);
        assert!(found.iter().all(|finding| finding.subject == "entity `comment`" && finding.text.contains("`author`")));
    }
}
