//! settle, for records that belong together: refused together, put back together, dead together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures::future::try_join_all;

use crate::buffer::{Attempts, DeadLetter, Done, Mark, Moved, Step, Together};
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::buffer::BufferError;
use crate::error::sink::SinkError;
use crate::fault::failpoint;
use crate::flush::Flusher;
use crate::flush::claim::{Claimed, Place};
use crate::flush::decode::{GROUPED, Unreadable};
use crate::flush::rotate::Epoch;
use crate::flush::settle::{Tally, chance, now_ms};
use crate::flush::units::Number;
use crate::flush::write_batch::Flushed;
use crate::options::retry_policy::{Counts, Fate, counts as counts_refusal, judge};
use crate::telemetry::log;

/// Records that belong together and cannot be acknowledged.
pub(crate) struct Unit {
    members: Vec<Claimed>,
    why: Why,
}

enum Why {
    /// The sink refuses one of them, whichever it is.
    Refused(SinkError),
    /// Some are no rows.
    Unreadable(Vec<Unreadable>),
    /// The time for another try has not come for one of them; what is counted for each.
    Early(Vec<Attempts>),
}

/// What is done with one record each, by the epoch that it is in.
type Parts<T> = BTreeMap<u16, (Epoch, Vec<(Id, T)>)>;

fn part<T>(parts: &mut Parts<T>, claimed: &Claimed, what: T) {
    let part = parts.entry(claimed.epoch.partition).or_insert_with(|| (claimed.epoch, Vec::new()));
    part.1.push((claimed.id.clone(), what));
}

/// Takes the units that are to be settled whole out of what became of a batch.
pub(crate) fn take_units(
    claimed: &[Claimed],
    flushed: &mut Flushed,
    unreadable: &mut Vec<Unreadable>,
    early: &mut Vec<(Claimed, Attempts)>,
) -> Vec<Unit> {
    if claimed.iter().all(|claimed| claimed.unit.is_none()) && early.iter().all(|(early, _)| early.unit.is_none()) {
        return Vec::new();
    }
    let strange: HashSet<Place> = unreadable.iter().map(|unreadable| unreadable.claimed.place()).collect();
    let mut numbers: HashMap<Id, Number> = HashMap::new();
    let mut members: HashMap<Number, Vec<Claimed>> = HashMap::new();
    for claimed in claimed {
        let Some(number) = claimed.unit else { continue };
        members.entry(number).or_default().push(claimed.clone());
        if !strange.contains(&claimed.place()) {
            numbers.insert(claimed.id.clone(), number);
        }
    }
    let mut why: BTreeMap<Number, Why> = BTreeMap::new();
    for unreadable in unreadable.extract_if(.., |unreadable| unreadable.claimed.unit.is_some()) {
        let number = unreadable.claimed.unit.unwrap_or_default();
        match why.entry(number).or_insert_with(|| Why::Unreadable(Vec::new())) {
            Why::Unreadable(all) => all.push(unreadable),
            Why::Refused(_) | Why::Early(_) => {}
        }
    }
    for (id, error) in flushed.refused.extract_if(.., |(id, _)| numbers.contains_key(id)) {
        if let Some(&number) = numbers.get(&id) {
            // Of several the first reason is the unit's.
            why.entry(number).or_insert(Why::Refused(error));
        }
    }
    // Also those that a sink has written which does not keep to "all or nothing".
    let written = |id: &Id| numbers.get(id).is_none_or(|number| !why.contains_key(number));
    flushed.written.retain(written);
    flushed.stale.retain(written);
    let whole = |(number, why)| Unit { members: members.remove(&number).unwrap_or_default(), why };
    let mut units: Vec<Unit> = why.into_iter().map(whole).collect();
    let mut waiting: BTreeMap<Number, (Vec<Claimed>, Vec<Attempts>)> = BTreeMap::new();
    for (claimed, attempts) in early.extract_if(.., |(claimed, _)| claimed.unit.is_some()) {
        let (members, counts) = waiting.entry(claimed.unit.unwrap_or_default()).or_default();
        members.push(claimed);
        counts.push(attempts);
    }
    units.extend(waiting.into_values().map(|(members, counts)| Unit { members, why: Why::Early(counts) }));
    units
}

impl<E: Entity> Flusher<E> {
    /// Returns for each epoch whether it is over for this worker, and how many of its records were not there.
    pub(crate) async fn settle_units(&self, units: Vec<Unit>) -> Result<Vec<(Epoch, bool, u64)>, BufferError> {
        let settled = units.into_iter().map(|unit| async move { self.settle_unit(unit).await });
        Ok(try_join_all(settled).await?.into_iter().flatten().collect())
    }

    async fn settle_unit(&self, unit: Unit) -> Result<Vec<(Epoch, bool, u64)>, BufferError> {
        let Unit { members, why } = unit;
        match why {
            Why::Early(counts) => {
                let mut parts = Parts::new();
                for (claimed, attempts) in members.iter().zip(counts) {
                    part(&mut parts, claimed, attempts);
                }
                self.back_whole(parts).await
            }
            Why::Unreadable(unreadable) => self.bury_whole(self.unreadable_letters(&members, unreadable)).await,
            Why::Refused(error) => self.refused_whole(&members, &error).await,
        }
    }

    /// One budget for all of them: the highest count of any, with what they are now.
    async fn refused_whole(
        &self,
        members: &[Claimed],
        error: &SinkError,
    ) -> Result<Vec<(Epoch, bool, u64)>, BufferError> {
        let now = now_ms();
        let before = try_join_all(members.iter().map(|Claimed { epoch, id, record, .. }| async move {
            let before = self.ctx.space.attempts(epoch.partition, std::slice::from_ref(id)).await?.pop().flatten();
            // What an older payload was refused for is not counted against this one.
            Ok::<_, BufferError>(Attempts::carried(before, record.digest(), now))
        }))
        .await?;
        let most = |count: fn(&Attempts) -> u32| before.iter().map(count).max().unwrap_or(0);
        let counted = Counts { attempts: most(|before| before.count), deferrals: most(|before| before.deferrals) };
        let held = self.has_held_parents(std::iter::once(error)).await?;
        let judged = judge(error.kind(), counted, &self.ctx.options.retry, chance(error));
        let (Counts { attempts, deferrals }, fate) = match judged {
            (_, Fate::Again(wait)) if !counts_refusal(error.kind(), counted, true, held) => {
                (counted, Fate::Again(wait))
            }
            (_, Fate::Dead) if !counts_refusal(error.kind(), counted, true, held) => {
                (counted, Fate::Again(Duration::ZERO))
            }
            judged => judged,
        };
        match fate {
            Fate::Again(wait) => {
                let mut parts = Parts::new();
                for (claimed, before) in members.iter().zip(before) {
                    let attempts = Attempts { count: attempts, deferrals, ..before };
                    log::refused(&self.ctx.scope, &claimed.id, (attempts.count, attempts.deferrals), wait, error);
                    self.retry_schedule.add(&claimed.id, &claimed.record, wait, attempts);
                    part(&mut parts, claimed, attempts);
                }
                self.ctx.counters.refused.add(members.len() as u64);
                self.back_whole(parts).await
            }
            Fate::Dead => {
                let mut parts = Parts::new();
                for (claimed, before) in members.iter().zip(before) {
                    let (kind, tries) = (error.kind().name(), attempts.saturating_add(deferrals));
                    let letter = DeadLetter::new(&claimed.record, kind, error.chain(), tries, before.first_ms, now);
                    part(&mut parts, claimed, letter);
                }
                self.bury_whole(parts).await
            }
        }
    }

    /// What is no row, and what is not written without it.
    fn unreadable_letters(&self, members: &[Claimed], unreadable: Vec<Unreadable>) -> Parts<DeadLetter> {
        let now = now_ms();
        let first = unreadable.first().map_or_else(String::new, |unreadable| {
            format!(
                "was written in one transaction with record `{}`, which is {}",
                unreadable.claimed.id, unreadable.kind
            )
        });
        let mut reasons: HashMap<Place, Unreadable> =
            unreadable.into_iter().map(|unreadable| (unreadable.claimed.place(), unreadable)).collect();
        let mut parts = Parts::new();
        for claimed in members {
            let (kind, error) = match reasons.remove(&claimed.place()) {
                Some(Unreadable { kind, error, .. }) => (kind, error),
                None => (GROUPED, first.clone()),
            };
            part(&mut parts, claimed, DeadLetter::new(&claimed.record, kind, error, 1, now, now));
        }
        parts
    }

    async fn back_whole(&self, parts: Parts<Attempts>) -> Result<Vec<(Epoch, bool, u64)>, BufferError> {
        let (epochs, parts) = self.steps(parts);
        let moved = self.ctx.space.back_unit(Mark::fresh(), &parts).await?;
        failpoint::pass("after_back");
        Ok(self.check_whole(&epochs, &moved, "back_unit"))
    }

    /// The letters remember that they belong together, so that a replay brings back all of them.
    async fn bury_whole(&self, mut parts: Parts<DeadLetter>) -> Result<Vec<(Epoch, bool, u64)>, BufferError> {
        if parts.values().map(|(_, letters)| letters.len()).sum::<usize>() > 1 {
            let together = Together { mark: Mark::fresh(), partitions: parts.keys().copied().collect() };
            for (_, letter) in parts.values_mut().flat_map(|(_, letters)| letters) {
                letter.together = Some(together.clone());
            }
        }
        let (epochs, parts) = self.steps(parts);
        let moved = self.ctx.space.bury_unit(&parts).await?;
        failpoint::pass("after_bury");
        if moved.iter().all(|moved| *moved != Done::NotOwner) {
            for (id, letter) in parts.iter().flat_map(|(_, letters)| letters) {
                log::dead_lettered(&self.ctx.scope, id, &letter.kind, &letter.error);
            }
            self.ctx.counters.dead_letters.add(moved.iter().map(|moved| moved.records).sum());
        }
        Ok(self.check_whole(&epochs, &moved, "bury_unit"))
    }

    #[expect(clippy::type_complexity, reason = "the epochs, and what the buffer is asked with")]
    fn steps<T>(&self, parts: Parts<T>) -> (Vec<Epoch>, Vec<(Step<'_>, Vec<(Id, T)>)>) {
        let step = |(epoch, records): (Epoch, Vec<(Id, T)>)| {
            let Epoch { partition, number, stamp, .. } = epoch;
            (epoch, (Step { partition, owner: self.leases.owner(), epoch: number, stamp }, records))
        };
        parts.into_values().map(step).unzip()
    }

    fn check_whole(&self, epochs: &[Epoch], moved: &[Moved], step: &'static str) -> Vec<(Epoch, bool, u64)> {
        let each = epochs.iter().zip(moved).map(|(&epoch, &moved)| {
            let mut tally = Tally::new(epoch);
            self.check(&mut tally, moved, step);
            tally.result()
        });
        each.collect()
    }
}
