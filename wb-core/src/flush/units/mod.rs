//! Which records belong together, because transactions have written them: they are written, put back and buried whole.

pub(crate) mod marks;

use std::collections::{BTreeMap, HashMap};

use crate::buffer::Mark;
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::flush::claim::Place;
use crate::sink::batch::Batch;

/// A unit's number, within one cycle.
pub(crate) type Number = usize;

/// Records that have a mark in common belong together, and so do all that they belong with. Each place is in one unit; units
/// and their places are in order, the same in every process.
pub(crate) fn units(marked: impl IntoIterator<Item = (Place, Vec<Mark>)>) -> Vec<Vec<Place>> {
    let mut by_place: BTreeMap<Place, Vec<Mark>> = BTreeMap::new();
    for (place, marks) in marked {
        by_place.entry(place).or_default().extend(marks);
    }
    let mut forest = Forest((0..by_place.len()).collect());
    let mut first: HashMap<Mark, usize> = HashMap::new();
    for (number, marks) in by_place.values().enumerate() {
        for mark in marks {
            let other = *first.entry(*mark).or_insert(number);
            forest.join(number, other);
        }
    }
    let mut units: BTreeMap<usize, Vec<Place>> = BTreeMap::new();
    for (number, place) in by_place.into_keys().enumerate() {
        units.entry(forest.root(number)).or_default().push(place);
    }
    units.into_values().collect()
}

/// Sets that are joined; each number points to one of its own set, in the end to the least.
struct Forest(Vec<usize>);

impl Forest {
    fn root(&mut self, number: usize) -> usize {
        let mut at = number;
        while let Some(&next) = self.0.get(at)
            && next != at
        {
            // Halves the way for the next one.
            let beyond = self.0.get(next).copied().unwrap_or(next);
            if let Some(entry) = self.0.get_mut(at) {
                *entry = beyond;
            }
            at = beyond;
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        if let Some(entry) = self.0.get_mut(one.max(other)) {
            *entry = one.min(other);
        }
    }
}

/// The units of a batch's records; most have none.
#[derive(Debug, Default)]
pub(crate) struct Ties(pub(crate) HashMap<Id, Number>);

impl Ties {
    /// Whether any records of the batch belong together.
    pub(crate) fn tie<E: Entity>(&self, batch: &Batch<E>) -> bool {
        !self.0.is_empty() && ids(batch).any(|id| self.0.contains_key(id))
    }

    /// Whether a batch can be split between units.
    pub(crate) fn divides<E: Entity>(&self, batch: &Batch<E>) -> bool {
        let mut units = ids(batch).map(|id| self.0.get(id));
        let first = units.next().flatten();
        first.is_none() || units.any(|unit| unit != first)
    }

    /// Splits a batch between units, never in one: those that are tied from those that are not, then units apart from units.
    /// The batch itself when it is one unit.
    pub(crate) fn split<E: Entity>(&self, batch: Batch<E>) -> Result<[Batch<E>; 2], Batch<E>> {
        let mut numbers: Vec<Number> = ids(&batch).filter_map(|id| self.0.get(id)).copied().collect();
        let tied = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        if tied < batch.len() {
            return Ok(self.part(batch, |number| number.is_some()));
        }
        match numbers.get(numbers.len() / 2) {
            Some(&middle) if numbers.len() > 1 => Ok(self.part(batch, |number| number < Some(middle))),
            _ => Err(batch),
        }
    }

    /// Two batches: of the records whose unit is picked, and of the others.
    fn part<E: Entity>(&self, batch: Batch<E>, picked: impl Fn(Option<Number>) -> bool) -> [Batch<E>; 2] {
        let of = |id: &Id| picked(self.0.get(id).copied());
        let Batch { scope, fences, upserts, deletes, .. } = batch;
        let (some_upserts, upserts) = upserts.into_iter().partition(|upsert| of(&upsert.id));
        let (some_deletes, deletes) = deletes.into_iter().partition(|delete| of(&delete.id));
        let some = Batch {
            scope: scope.clone(),
            fences: fences.clone(),
            upserts: some_upserts,
            deletes: some_deletes,
            whole: true,
        };
        let mut others = Batch { scope, fences, upserts, deletes, whole: false };
        others.whole = self.tie(&others);
        [some, others]
    }
}

pub(crate) fn ids<E: Entity>(batch: &Batch<E>) -> impl Iterator<Item = &Id> {
    batch.upserts.iter().map(|upsert| &upsert.id).chain(batch.deletes.iter().map(|delete| &delete.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: u16, n: u64) -> Place {
        (partition, Id::of(&n).expect("a number is a key"))
    }

    #[test]
    fn marks_in_common_tie_also_by_way_of_others() {
        let marks: Vec<Mark> = (0..6).map(|_| Mark::fresh()).collect();
        let [a, b, c, d, e, f] = marks[..] else { panic!("six marks") };
        let marked = [
            (place(0, 1), vec![a]),
            (place(1, 2), vec![a, b]),
            (place(0, 3), vec![b]),
            (place(2, 4), vec![c]),
            (place(0, 5), vec![d, e]),
            (place(3, 6), vec![e, c]),
            (place(0, 7), vec![f]),
            // A page names a record twice, and one under an id that stands elsewhere too.
            (place(0, 1), vec![a]),
            (place(1, 1), vec![f]),
            (place(4, 9), Vec::new()),
        ];
        let expected = vec![
            vec![place(0, 1), place(0, 3), place(1, 2)],
            vec![place(0, 5), place(2, 4), place(3, 6)],
            vec![place(0, 7), place(1, 1)],
            vec![place(4, 9)],
        ];
        assert_eq!(units(marked.clone()), expected);
        let mut reversed = marked;
        reversed.reverse();
        assert_eq!(units(reversed), expected, "in whatever order they are read");
        assert!(units([]).is_empty());
    }

    #[test]
    fn a_long_chain_is_one_unit() {
        let marks: Vec<Mark> = (0..10_001).map(|_| Mark::fresh()).collect();
        let chain = (0..10_000_u64).map(|n| {
            let at = usize::try_from(n).expect("small");
            (place(u16::try_from(n % 7).expect("small"), n), vec![marks[at], marks[at + 1]])
        });
        let found = units(chain);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].len(), 10_000);
    }
}
