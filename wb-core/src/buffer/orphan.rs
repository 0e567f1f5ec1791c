//! What waits in a buffer and nobody flushes.

use super::Topology;

/// Records of a layout that no program that is alive flushes: of an entity that a deploy has renamed or dropped, or of a
/// topology that is not the stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Orphan {
    /// The entity.
    pub entity: String,
    /// How its records are laid out.
    pub topology: Topology,
    /// Whether this is the topology that is stored for the entity: a worker with it would flush the records.
    pub stored: bool,
    /// Records, and entries of logs, that are not flushed.
    pub dirty: u64,
    /// Dead letters.
    pub letters: u64,
}

impl Orphan {
    /// What waits of an entity, in a topology that is `stored` for it or not.
    #[must_use]
    pub fn new(entity: impl Into<String>, topology: Topology, stored: bool, dirty: u64, letters: u64) -> Self {
        Self { entity: entity.into(), topology, stored, dirty, letters }
    }
}

/// A layout of the namespace, and what is known of it.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    /// The topology that this engine asks for, when it has the entity.
    pub(super) own: Option<&'a Topology>,
    /// The topology that is stored for the entity.
    pub(super) stored: Option<&'a Topology>,
    /// Whether a worker of the entity is alive.
    pub(super) worked: bool,
}

impl Layout<'_> {
    /// Whether nobody who is alive flushes what is laid out like `this`. A worker flushes the stored topology; what is left of
    /// another one is told by each engine that has the entity, and by others when no worker of it is alive.
    pub(super) fn is_nobodys(&self, this: &Topology) -> bool {
        match self.own {
            Some(own) => own != this && self.stored != Some(this),
            None => !self.worked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_flush_a_layout_makes_it_no_orphan() {
        let of = |partitions| Topology::parse(&format!("layout=2 partitions={partitions} format=json"));
        let (Some(four), Some(eight)) = (of(4), of(8)) else { panic!("no topology") };
        for (own, stored, worked, expected) in [
            // Of another program's entity.
            (None, Some(&four), true, false),
            (None, Some(&four), false, true),
            (None, Some(&eight), true, false),
            (None, None, false, true),
            // Of this engine's own.
            (Some(&four), Some(&four), false, false),
            (Some(&four), None, false, false),
            (Some(&eight), Some(&four), false, false),
            (Some(&eight), Some(&eight), true, true),
            (Some(&eight), None, false, true),
        ] {
            let layout = Layout { own, stored, worked };
            assert_eq!(layout.is_nobodys(&four), expected, "{layout:?}");
        }
    }
}
