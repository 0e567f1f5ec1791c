//! Which partitions a worker should have: pure functions, the same in every process.

/// Partitions that are this worker's part: `partitions` over all workers, the first ones get the remainder.
///
/// The order of the workers differs from entity to entity, so that the remainders of many small entities do not all
/// fall to the same worker. A worker that is not on the list gets none.
pub(crate) fn quota(entity: &str, workers: &[String], me: &str, partitions: u16) -> usize {
    let Ok(all) = u16::try_from(workers.len()) else { return usize::from(rank(entity, workers, me) == Some(0)) };
    match rank(entity, workers, me) {
        Some(rank) => {
            let remainder = usize::from(partitions.checked_rem(all).unwrap_or(0));
            usize::from(partitions.checked_div(all).unwrap_or(0)) + usize::from(rank < remainder)
        }
        None => 0,
    }
}

/// The place of a worker in the order of this entity.
pub(crate) fn rank(entity: &str, workers: &[String], me: &str) -> Option<usize> {
    let place = |worker: &str| {
        let mut sum = crc16::State::<crc16::XMODEM>::new();
        sum.update(entity.as_bytes());
        sum.update(worker.as_bytes());
        sum.get()
    };
    let mine = (place(me), me);
    workers
        .iter()
        .any(|worker| worker == me)
        .then(|| workers.iter().filter(|worker| (place(worker), worker.as_str()) < mine).count())
}

/// What a worker holds, and what it could take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Partitions that it keeps so far.
    pub(crate) staying: Vec<u16>,
    /// Partitions that it is about to give up.
    pub(crate) leaving: Vec<u16>,
    /// Partitions that nobody holds.
    pub(crate) free: Vec<u16>,
}

/// What it does next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// To be given up.
    pub(crate) give: Vec<u16>,
    /// Not to be given up after all.
    pub(crate) keep: Vec<u16>,
    /// To be taken.
    pub(crate) take: Vec<u16>,
}

/// What brings a worker to its quota with the fewest moves; nothing moves when it is there. Workers of different `rank`
/// among `workers` begin to take at different places, so that they rarely ask for the same partition.
pub(crate) fn moves(held: &Held, quota: usize, rank: usize, workers: usize) -> Moves {
    let (has, excess) = (held.staying.len(), held.staying.len().saturating_sub(quota));
    let give = held.staying.iter().skip(has - excess).copied().collect();
    let keep: Vec<u16> = held.leaving.iter().take(quota.saturating_sub(has)).copied().collect();
    let missing = quota.saturating_sub(has + keep.len());
    let begin = (held.free.len() * rank).checked_div(workers).unwrap_or(0);
    let take = held.free.iter().cycle().skip(begin).take(missing.min(held.free.len())).copied().collect();
    Moves { give, keep, take }
}

/// The same for an entity whose partitions have one worker, all of them: `first` says that it is this one. Whoever holds
/// partition 0 takes the others; who does not, takes none, so that no two workers hold a part each and wait for the other.
/// Partition 0 is the first one to be taken, and the others only with it.
pub(crate) fn moves_of_all(held: &Held, first: bool) -> Moves {
    let has = |partitions: &[u16]| partitions.contains(&0);
    if !first || !(has(&held.staying) || has(&held.leaving) || has(&held.free)) {
        return Moves { give: held.staying.clone(), ..Moves::default() };
    }
    let mut take = held.free.clone();
    take.sort_unstable();
    Moves { give: Vec::new(), keep: held.leaving.clone(), take }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("worker-{n:03}")).collect()
    }

    #[test]
    fn quotas_are_fair_and_add_up() {
        for (partitions, workers, expected) in [
            (16, 1, vec![16]),
            (16, 2, vec![8, 8]),
            (16, 3, vec![6, 5, 5]),
            (16, 5, vec![4, 3, 3, 3, 3]),
            (16, 16, vec![1; 16]),
            (3, 5, vec![1, 1, 1, 0, 0]),
            (1, 2, vec![1, 0]),
            (4_096, 3, vec![1_366, 1_365, 1_365]),
        ] {
            let workers = names(workers);
            let mut quotas: Vec<_> = workers.iter().map(|me| quota("post", &workers, me, partitions)).collect();
            quotas.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(quotas, expected, "{partitions} over {}", workers.len());
        }
        assert_eq!(quota("post", &names(3), "stranger", 16), 0);
        assert_eq!(quota("post", &[], "stranger", 16), 0);
    }

    #[test]
    fn balance_is_within_one_and_a_half() {
        for workers in 1..=20_u16 {
            let list = names(workers.into());
            for partitions in 2 * workers..=200 {
                let quotas: Vec<_> = list.iter().map(|me| quota("post", &list, me, partitions)).collect();
                let (least, most) = (quotas.iter().min().copied(), quotas.iter().max().copied());
                assert!(2 * most.unwrap() <= 3 * least.unwrap(), "{partitions} over {workers}: {quotas:?}");
                assert_eq!(quotas.iter().sum::<usize>(), usize::from(partitions));
            }
        }
    }

    #[test]
    fn ranks_are_places_and_differ_between_entities() {
        let workers = names(5);
        let mut firsts = std::collections::BTreeSet::new();
        for n in 0..50 {
            let entity = format!("entity-{n}");
            let mut ranks: Vec<_> = workers.iter().filter_map(|me| rank(&entity, &workers, me)).collect();
            firsts.extend(workers.iter().find(|me| rank(&entity, &workers, me) == Some(0)));
            ranks.sort_unstable();
            assert_eq!(ranks, [0, 1, 2, 3, 4]);
        }
        assert_eq!(firsts.len(), 5, "one partition each: the work of 50 entities is on {firsts:?}");
    }

    #[test]
    fn all_partitions_go_with_the_first() {
        let held = |staying: &[u16], leaving: &[u16], free: &[u16]| Held {
            staying: staying.to_vec(),
            leaving: leaving.to_vec(),
            free: free.to_vec(),
        };
        let none = Moves::default();
        for (held, first, expected) in [
            (held(&[], &[], &[2, 0, 1]), true, Moves { take: vec![0, 1, 2], ..none.clone() }),
            (held(&[0], &[], &[2]), true, Moves { take: vec![2], ..none.clone() }),
            (held(&[0, 1, 2], &[], &[]), true, none.clone()),
            (held(&[1], &[0, 2], &[]), true, Moves { keep: vec![0, 2], ..none.clone() }),
            // Another worker has the first one: it has all of them, or will.
            (held(&[], &[], &[1, 2]), true, none.clone()),
            (held(&[1], &[2], &[]), true, Moves { give: vec![1], ..none.clone() }),
            // It is another worker's turn.
            (held(&[], &[], &[0, 1, 2]), false, none.clone()),
            (held(&[0, 1], &[2], &[]), false, Moves { give: vec![0, 1], ..none }),
        ] {
            assert_eq!(moves_of_all(&held, first), expected, "{held:?}, first: {first}");
        }
    }

    #[test]
    fn moves_are_the_fewest() {
        let held = |staying: &[u16], leaving: &[u16], free: &[u16]| Held {
            staying: staying.to_vec(),
            leaving: leaving.to_vec(),
            free: free.to_vec(),
        };
        let none = Moves::default();
        for (held, quota, rank, workers, expected) in [
            (held(&[], &[], &[]), 0, 0, 0, none.clone()),
            // At the quota nothing moves, whatever is free.
            (held(&[0, 1], &[], &[2, 3]), 2, 0, 2, none.clone()),
            (held(&[0, 1, 2, 3], &[], &[]), 2, 0, 2, Moves { give: vec![2, 3], ..none.clone() }),
            // What leaves already does not count.
            (held(&[0, 1], &[2, 3], &[]), 2, 0, 2, none.clone()),
            // What is there already is better than what is free.
            (held(&[0], &[2, 3], &[5]), 2, 0, 2, Moves { keep: vec![2], ..none.clone() }),
            (held(&[0], &[2], &[5, 6]), 4, 0, 1, Moves { keep: vec![2], take: vec![5, 6], ..none.clone() }),
            (held(&[], &[], &[0, 1, 2, 3]), 2, 0, 2, Moves { take: vec![0, 1], ..none.clone() }),
            (held(&[], &[], &[0, 1, 2, 3]), 2, 1, 2, Moves { take: vec![2, 3], ..none.clone() }),
            // Round and round, each once.
            (held(&[], &[], &[0, 1, 2]), 9, 1, 2, Moves { take: vec![1, 2, 0], ..none.clone() }),
            (held(&[4, 5], &[], &[0]), 0, 0, 3, Moves { give: vec![4, 5], ..none }),
        ] {
            assert_eq!(moves(&held, quota, rank, workers), expected, "{held:?}, quota {quota}");
        }
    }
}
