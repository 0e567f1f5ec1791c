//! Unique values that move between the records of a batch, and an order in which each is free before it is taken.
//!
//! For sinks. What they know of values is a hint: the database decides, and an order that is wrong costs statements.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// A unique value: the number of its constraint, and the value as text.
pub type Unique = (usize, String);

/// A record of a batch, by its place among the upserts or among the deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// An upsert.
    Upsert(usize),
    /// A delete.
    Delete(usize),
}

/// The unique values of a batch: who has which in the database, and who is to have which.
#[derive(Debug, Default)]
pub struct Moves {
    upserts: Vec<Move>,
    deletes: Vec<Vec<Unique>>,
}

#[derive(Debug)]
struct Move {
    has: Vec<Unique>,
    wants: Vec<Unique>,
}

impl Move {
    fn takes(&self) -> impl Iterator<Item = &Unique> {
        self.wants.iter().filter(|value| !self.has.contains(value))
    }

    fn gives(&self) -> impl Iterator<Item = &Unique> {
        self.has.iter().filter(|value| !self.wants.contains(value))
    }
}

/// An order for the records of a batch, in the order of these fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Upserts that need no delete.
    pub before: Vec<usize>,
    /// Deletes that free a value, as late as can be: an upsert before may have moved a child away.
    pub freeing: Vec<usize>,
    /// Upserts that need one of those, or an upsert that does.
    pub after: Vec<usize>,
    /// Upserts that wait for each other in a circle, and what waits for those; apart from each other where they have nothing in
    /// common. Only a constraint that is checked after all of them takes them.
    pub circles: Vec<Vec<usize>>,
    /// All other deletes.
    pub deletes: Vec<usize>,
}

/// Who is in the way of an upsert.
#[derive(Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Number of the constraint.
    pub constraint: usize,
    /// Who has the value.
    pub holder: Member,
    /// The upserts that wait for each other, from this one on; empty when it waits in no circle.
    pub circle: Vec<usize>,
}

impl Order {
    /// All in the order of the batch.
    #[must_use]
    pub fn plain(upserts: usize, deletes: usize) -> Self {
        Self { before: (0..upserts).collect(), deletes: (0..deletes).collect(), ..Self::default() }
    }

    /// Leaves out what is not to be written.
    pub fn keep(&mut self, upsert: impl Fn(usize) -> bool, delete: impl Fn(usize) -> bool) {
        self.before.retain(|&index| upsert(index));
        self.after.retain(|&index| upsert(index));
        self.circles.iter_mut().for_each(|circle| circle.retain(|&index| upsert(index)));
        self.circles.retain(|circle| !circle.is_empty());
        self.freeing.retain(|&index| delete(index));
        self.deletes.retain(|&index| delete(index));
    }
}

impl Moves {
    /// The next upsert, with the values that its row has, and those that it is to have.
    pub fn upsert(&mut self, has: Vec<Unique>, wants: Vec<Unique>) {
        self.upserts.push(Move { has, wants });
    }

    /// The next delete, with the values that its row has.
    pub fn delete(&mut self, has: Vec<Unique>) {
        self.deletes.push(has);
    }

    fn holders<'a>(&'a self, of: impl Fn(&'a Move) -> Vec<&'a Unique>) -> HashMap<&'a Unique, Vec<Member>> {
        let mut holders: HashMap<&Unique, Vec<Member>> = HashMap::new();
        for (index, upsert) in self.upserts.iter().enumerate() {
            for value in of(upsert) {
                holders.entry(value).or_default().push(Member::Upsert(index));
            }
        }
        for (index, has) in self.deletes.iter().enumerate() {
            for value in has {
                holders.entry(value).or_default().push(Member::Delete(index));
            }
        }
        holders
    }

    /// An order in which each value is given up before it is taken. What moves nothing stays in the order of the batch.
    #[must_use]
    pub fn order(&self) -> Order {
        let givers = self.holders(|upsert| upsert.gives().collect());
        let count = self.upserts.len();
        let (mut freeing, mut late) = (BTreeSet::new(), vec![false; count]);
        let (mut waits, mut waiters) = (vec![0_usize; count], vec![Vec::new(); count]);
        for (index, upsert) in self.upserts.iter().enumerate() {
            for giver in upsert.takes().filter_map(|value| givers.get(value)).flatten() {
                match *giver {
                    Member::Delete(giver) => {
                        freeing.insert(giver);
                        set(&mut late, index, true);
                    }
                    Member::Upsert(giver) if giver != index => {
                        if let (Some(waiters), Some(waits)) = (waiters.get_mut(giver), waits.get_mut(index)) {
                            waiters.push(index);
                            *waits += 1;
                        }
                    }
                    Member::Upsert(_) => {}
                }
            }
        }
        let mut order = Order::default();
        let mut ready: VecDeque<usize> = (0..count).filter(|&index| waits.get(index) == Some(&0)).collect();
        while let Some(index) = ready.pop_front() {
            let is_late = late.get(index).copied().unwrap_or_default();
            if is_late { &mut order.after } else { &mut order.before }.push(index);
            for &waiter in waiters.get(index).into_iter().flatten() {
                if is_late {
                    set(&mut late, waiter, true);
                }
                if let Some(waits) = waits.get_mut(waiter) {
                    *waits -= 1;
                    if *waits == 0 {
                        ready.push_back(waiter);
                    }
                }
            }
        }
        order.circles = circles(&waits, &waiters);
        order.deletes = (0..self.deletes.len()).filter(|index| !freeing.contains(index)).collect();
        order.freeing = freeing.into_iter().collect();
        order
    }

    /// Who has a value that these upserts are to have, one by one.
    #[must_use]
    pub fn blocked(&self, upserts: &[usize]) -> Vec<Option<Blocked>> {
        let holders = self.holders(|upsert| upsert.has.iter().collect());
        upserts.iter().map(|&upsert| self.blocked_by(upsert, &holders)).collect()
    }

    fn blocked_by(&self, upsert: usize, holders: &HashMap<&Unique, Vec<Member>>) -> Option<Blocked> {
        let mut found = None;
        for (constraint, holder) in self.in_the_way(upsert, holders) {
            let circle = match holder {
                Member::Upsert(first) => self.circle(upsert, first, holders),
                Member::Delete(_) => Vec::new(),
            };
            // A circle says more than a holder.
            if !circle.is_empty() {
                return Some(Blocked { constraint, holder, circle });
            }
            found = found.or(Some(Blocked { constraint, holder, circle }));
        }
        found
    }

    fn in_the_way<'a>(
        &'a self,
        upsert: usize,
        holders: &'a HashMap<&Unique, Vec<Member>>,
    ) -> impl Iterator<Item = (usize, Member)> + 'a {
        let taken = self.upserts.get(upsert).into_iter().flat_map(Move::takes);
        let held = taken.filter_map(|value| Some((value.0, holders.get(value)?)));
        held.flat_map(|(constraint, all)| all.iter().map(move |&holder| (constraint, holder)))
    }

    /// Who waits for whom from `upsert` on, first for `next`, until it is met again; empty when it is not.
    fn circle(&self, upsert: usize, next: usize, holders: &HashMap<&Unique, Vec<Member>>) -> Vec<usize> {
        let mut from = HashMap::from([(next, upsert)]);
        let mut queue = VecDeque::from([next]);
        while let Some(at) = queue.pop_front() {
            if at == upsert {
                let mut circle = Vec::new();
                let mut last = from.get(&at).copied();
                while let Some(at) = last.filter(|&at| at != upsert) {
                    circle.push(at);
                    last = from.get(&at).copied();
                }
                circle.push(upsert);
                circle.reverse();
                return circle;
            }
            for (_, holder) in self.in_the_way(at, holders) {
                if let Member::Upsert(holder) = holder
                    && !from.contains_key(&holder)
                {
                    from.insert(holder, at);
                    queue.push_back(holder);
                }
            }
        }
        Vec::new()
    }
}

/// Names of a circle that are said.
const NAMED: usize = 4;

/// What is said of a record whose unique value, of these fields, another record has: which, and whether that one is refused too.
#[must_use]
pub fn holder_reason(fields: &str, holder: &str, is_refused: bool) -> String {
    let too = if is_refused { ", which is refused itself" } else { "" };
    format!("cannot take its unique value of {fields}: it is held by record {holder}{too}")
}

/// What is said of a record that waits for others in a circle, itself first.
#[must_use]
pub fn circle_reason(fields: &str, circle: impl ExactSizeIterator<Item = String>, deferrable: bool) -> String {
    let count = circle.len();
    let mut names = circle.take(NAMED).collect::<Vec<_>>().join(", ");
    if count > NAMED {
        names.push_str(&format!(" and {} more", count - NAMED));
    }
    let or = if deferrable { ", or declare the constraint DEFERRABLE" } else { "" };
    format!(
        "cannot take its unique value of {fields}: records {names} exchange unique values, and no order of writes does that; \
         write one of them with another value and flush it first{or}"
    )
}

fn set(flags: &mut [bool], index: usize, flag: bool) {
    if let Some(slot) = flags.get_mut(index) {
        *slot = flag;
    }
}

/// Those that still wait, in groups that have nothing to do with each other.
fn circles(waits: &[usize], waiters: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let left: Vec<usize> = (0..waits.len()).filter(|&index| waits.get(index).is_some_and(|&waits| waits > 0)).collect();
    let mut near: HashMap<usize, Vec<usize>> = left.iter().map(|&index| (index, Vec::new())).collect();
    for &index in &left {
        for &waiter in waiters.get(index).into_iter().flatten() {
            near.entry(index).or_default().push(waiter);
            near.entry(waiter).or_default().push(index);
        }
    }
    let mut seen = HashSet::new();
    let mut circles = Vec::new();
    for first in left {
        if !seen.insert(first) {
            continue;
        }
        let (mut group, mut at) = (vec![first], 0);
        while let Some(&index) = group.get(at) {
            at += 1;
            for &other in near.get(&index).into_iter().flatten() {
                if seen.insert(other) {
                    group.push(other);
                }
            }
        }
        group.sort_unstable();
        circles.push(group);
    }
    circles
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> Vec<Unique> {
        if text.is_empty() { Vec::new() } else { vec![(0, text.to_owned())] }
    }

    fn moves(upserts: &[(&str, &str)], deletes: &[&str]) -> Moves {
        let mut moves = Moves::default();
        upserts.iter().for_each(|(has, wants)| moves.upsert(value(has), value(wants)));
        deletes.iter().for_each(|has| moves.delete(value(has)));
        moves
    }

    #[test]
    fn what_moves_nothing_stays_in_order() {
        let order = moves(&[("a", "a"), ("", "x"), ("b", "c")], &["d", "e"]).order();
        assert_eq!(order, Order::plain(3, 2));
    }

    #[test]
    fn a_value_is_given_up_before_it_is_taken() {
        let order = moves(&[("a", "neo"), ("neo", "b")], &[]).order();
        assert_eq!(order, Order { before: vec![1, 0], ..Order::default() });
        // By a delete, which is as late as can be; another one is last.
        let order = moves(&[("a", "neo"), ("", "b"), ("", "a")], &["x", "neo"]).order();
        let expected =
            Order { before: vec![1], freeing: vec![1], after: vec![0, 2], deletes: vec![0], ..Order::default() };
        assert_eq!(order, expected);
    }

    #[test]
    fn circles_are_apart_and_named() {
        let moves =
            moves(&[("a", "b"), ("b", "a"), ("c", "d"), ("x", "y"), ("y", "z"), ("z", "x"), ("k", "a")], &["k"]);
        let order = moves.order();
        assert_eq!(order.circles, [vec![0, 1, 6], vec![3, 4, 5]]);
        assert_eq!(order.before, [2]);
        let circle = |upsert| moves.blocked(&[upsert]).remove(0).map(|blocked| (blocked.holder, blocked.circle));
        assert_eq!(circle(0), Some((Member::Upsert(1), vec![0, 1])));
        assert_eq!(circle(4), Some((Member::Upsert(5), vec![4, 5, 3])));
        assert_eq!(circle(6), Some((Member::Upsert(0), Vec::new())));
        assert_eq!(circle(2), None);
    }

    #[test]
    fn who_keeps_a_value_is_waited_for_by_nobody_and_named() {
        let moves = moves(&[("a", "a"), ("", "a")], &[]);
        assert_eq!(moves.order(), Order::plain(2, 0));
        let blocked = Blocked { constraint: 0, holder: Member::Upsert(0), circle: Vec::new() };
        assert_eq!(moves.blocked(&[1]), [Some(blocked)]);
    }

    #[test]
    fn a_long_chain_and_a_long_circle_end() {
        let (mut chain, mut circle) = (Moves::default(), Moves::default());
        for n in 0..10_000 {
            chain.upsert(value(&n.to_string()), value(&(n + 1).to_string()));
            circle.upsert(value(&n.to_string()), value(&((n + 1) % 10_000).to_string()));
        }
        assert_eq!(chain.order().before, (0..10_000).rev().collect::<Vec<_>>());
        assert_eq!(circle.order().circles, [(0..10_000).collect::<Vec<_>>()]);
        assert_eq!(circle.blocked(&[5]).remove(0).map(|blocked| blocked.circle.len()), Some(10_000));
    }

    proptest! {
        /// Whatever moves: each order lists every record once, and up to the circles no value is ever held twice.
        #[test]
        fn values_are_free_when_they_are_taken(
            now in proptest::collection::vec(0_usize..12, 12),
            then in Just((0_usize..14).collect::<Vec<_>>()).prop_shuffle(),
            gone in proptest::collection::vec(any::<bool>(), 12),
        ) {
            // Rows of distinct values; some are deleted, the others take distinct ones, some are new.
            let mut moves = Moves::default();
            let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
            for (row, (&shown, &gone)) in now.iter().zip(&gone).enumerate() {
                let has = if shown < 10 { value(&row.to_string()) } else { Vec::new() };
                if gone {
                    deletes.push(has.clone());
                    moves.delete(has);
                } else {
                    let wants = value(&then[row].to_string());
                    upserts.push((has.clone(), wants.clone()));
                    moves.upsert(has, wants);
                }
            }
            let order = moves.order();
            let mut held: BTreeSet<Unique> = upserts.iter().flat_map(|(has, _)| has.clone()).chain(deletes.iter().flatten().cloned()).collect();
            let mut written = BTreeSet::new();
            let mut put = |index: usize, held: &mut BTreeSet<Unique>| {
                let (has, wants) = &upserts[index];
                has.iter().for_each(|value| { held.remove(value); });
                written.insert(index) && wants.iter().all(|value| held.insert(value.clone()))
            };
            for &index in &order.before {
                prop_assert!(put(index, &mut held), "{order:?}");
            }
            for &index in &order.freeing {
                deletes[index].iter().for_each(|value| { held.remove(value); });
            }
            for &index in &order.after {
                prop_assert!(put(index, &mut held), "{order:?}");
            }
            for circle in &order.circles {
                circle.iter().for_each(|&index| upserts[index].0.iter().for_each(|value| { held.remove(value); }));
                for &index in circle {
                    prop_assert!(put(index, &mut held), "{order:?}");
                }
            }
            prop_assert_eq!(written.len(), upserts.len());
            let all: BTreeSet<usize> = order.freeing.iter().chain(&order.deletes).copied().collect();
            prop_assert_eq!(all.len(), deletes.len());
        }
    }
}
