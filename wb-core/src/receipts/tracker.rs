//! Where receipts are waited for: one task a receipts looks for all of them, so that many cost the buffer little.
//!
//! A write is settled when the epoch that was open when it was first looked for is flushed, and the key's last outcome is
//! not a refusal. What is refused goes into a later epoch, where it, or a newer state of its key, is waited for again.

use std::collections::{BTreeMap, HashSet};
use std::iter;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};

use crate::buffer::{Look, Sight};
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::CacheError;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::receipts::Receipts;
use crate::runtime::backoff::LOOK_AGAIN;
use crate::runtime::context::Begun;
use crate::runtime::data_loss;
use crate::runtime::lifecycle::{Phase, stopped};
use crate::telemetry::log;

/// Who waits for one write.
#[derive(Debug)]
struct Waiter {
    partition: u16,
    id: Id,
    /// Of an entry of a log: the id that it has if it is no row.
    unreadable: Option<Id>,
    begun: Begun,
    /// `None` before the first look.
    trace: Option<Trace>,
    done: oneshot::Sender<Result<(), CacheError>>,
}

/// What is known of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trace {
    /// It was seen to be dirty, in this epoch or an earlier one.
    awaited: Option<u64>,
    /// It, or a newer state of its key, is in this epoch or a later one; 0: not known.
    since: u64,
    /// The last epoch that had lost records before the write.
    vanished: u64,
    /// It may be an entry of a log; the open one had so many.
    entries: Option<u64>,
}

impl Trace {
    /// A state of the key stands in this epoch.
    const fn seen(epoch: u64) -> Self {
        Self { awaited: Some(epoch), since: epoch, vanished: 0, entries: None }
    }
}

/// The waiters of a receipts.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    waiters: Mutex<Vec<Waiter>>,
    wake: Notify,
}

/// What a look says of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// In the sink, it or a newer state of its key.
    Persisted,
    /// The sink refuses it.
    Dead,
    /// It, or a newer state of its key, was left out: the sink has a newer version.
    Stale,
    /// The sink refused it, and the dead letter was discarded.
    Discarded,
    /// It may have been left out or discarded: too much was, since, to be remembered.
    Unsure,
    /// Not settled.
    Waits(Trace),
    /// It is not where it must be: a foreign hand has taken it out of the open epoch.
    Gone,
    /// The buffer lost data.
    Lost,
}

/// Judges an entry of a log: as long as it may be in one, by that; then as a record, by its ids.
fn judge_entry(trace: Trace, at: &Look, sight: Sight) -> Verdict {
    let Some(seen) = trace.entries else { return judge(trace, at, sight) };
    match trace.awaited {
        Some(epoch) if at.open_epoch < epoch => return Verdict::Lost,
        // A log only grows while it is open.
        Some(epoch) if at.open_epoch == epoch && at.entries < seen.max(1) => return Verdict::Gone,
        Some(epoch) if at.open_epoch == epoch => return Verdict::Waits(Trace { entries: Some(at.entries), ..trace }),
        Some(epoch) if at.open_epoch == epoch.saturating_add(1) && at.closed_entries > 0 => {
            return Verdict::Waits(trace);
        }
        Some(_) => {}
        None if at.entries > 0 => {
            return Verdict::Waits(Trace { awaited: Some(at.open_epoch), entries: Some(at.entries), ..trace });
        }
        None if at.closed_entries > 0 => {
            return Verdict::Waits(Trace { awaited: Some(at.open_epoch.saturating_sub(1)), ..trace });
        }
        None => {}
    }
    judge(Trace { awaited: None, entries: None, ..trace }, at, sight)
}

/// Judges one write by a look at its key.
fn judge(trace: Trace, at: &Look, sight: Sight) -> Verdict {
    match trace.awaited {
        // Epochs go back only in a buffer that lost data.
        Some(epoch) if at.open_epoch < epoch => return Verdict::Lost,
        // Its epoch is not flushed; a state of the key that was there at the last look is still on its way.
        Some(epoch) if at.flushed_epoch < epoch && sight.is_dirty() => return Verdict::Waits(trace),
        // Settled earlier than the others of its epoch, or never in this buffer.
        Some(_) | None => {}
    }
    // An epoch that it may have been in has lost records; that a later one is flushed says nothing.
    let vanished = at.vanished_epoch > trace.vanished && at.vanished_epoch >= trace.since;
    // What was settled of the key last was refused, and is tried again, or a newer state is.
    let again = trace.awaited.is_none() || sight.refused || vanished;
    match sight {
        Sight { open: true, .. } if again => Verdict::Waits(Trace::seen(at.open_epoch)),
        Sight { flushing: true, .. } if again => Verdict::Waits(Trace::seen(at.open_epoch.saturating_sub(1))),
        // Nothing is refused without being dirty or dead.
        Sight { refused: true, dead: false, .. } => Verdict::Lost,
        Sight { dead: true, .. } => Verdict::Dead,
        // A newer state that is on its way may be written or left out, too; of this one all is known.
        Sight { stale: true, .. } => Verdict::Stale,
        Sight { discarded: true, .. } => Verdict::Discarded,
        Sight { .. } if vanished => Verdict::Lost,
        Sight { open: false, .. } if trace.since >= at.open_epoch => Verdict::Gone,
        Sight { .. } if at.unmarked_epoch > 0 && at.unmarked_epoch >= trace.since => Verdict::Unsure,
        Sight { .. } => Verdict::Persisted,
    }
}

impl Tracker {
    fn waiters(&self) -> MutexGuard<'_, Vec<Waiter>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer for a write, when there is one.
    pub(crate) fn wait_for(
        &self,
        partition: u16,
        id: Id,
        unreadable: Option<Id>,
        begun: Begun,
    ) -> oneshot::Receiver<Result<(), CacheError>> {
        let (done, answer) = oneshot::channel();
        self.waiters().push(Waiter { partition, id, unreadable, begun, trace: None, done });
        self.wake.notify_one();
        answer
    }

    /// Those whose callers have not gone away.
    fn take(&self) -> Vec<Waiter> {
        let mut waiters = std::mem::take(&mut *self.waiters());
        waiters.retain(|waiter| !waiter.done.is_closed());
        waiters
    }

    fn give_back(&self, waiting: Vec<Waiter>) {
        self.waiters().extend(waiting);
    }

    fn is_empty(&self) -> bool {
        self.waiters().is_empty()
    }
}

/// Looks for what is waited for, until the phase ends.
pub(crate) async fn run<E: Entity>(receipts: &Receipts<E>, mut phase: watch::Receiver<Phase>) {
    let mut cycles = receipts.ctx.cycles.subscribe();
    let mut pause = LOOK_AGAIN.0;
    loop {
        if receipts.tracker.is_empty() {
            pause = LOOK_AGAIN.0;
            tokio::select! {
                () = receipts.tracker.wake.notified() => {}
                () = stopped(&mut phase) => return,
            }
        }
        cycles.mark_unchanged();
        look(receipts).await;
        if receipts.tracker.is_empty() {
            continue;
        }
        // Either this process flushes and says so, or another one does and has to be asked.
        tokio::select! {
            _ = cycles.changed() => {}
            () = receipts.tracker.wake.notified() => pause = LOOK_AGAIN.0,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOOK_AGAIN.1),
            () = stopped(&mut phase) => {
                // What the last flush settled is told.
                look(receipts).await;
                return;
            }
        }
    }
}

/// One look for all waiters. A buffer that is away is asked again: what was acknowledged is still there, or its loss is told
/// when it is back.
async fn look<E: Entity>(receipts: &Receipts<E>) {
    let mut by_partition: BTreeMap<u16, Vec<Waiter>> = BTreeMap::new();
    for waiter in receipts.tracker.take() {
        by_partition.entry(waiter.partition).or_default().push(waiter);
    }
    let mut settled = Vec::new();
    for (partition, waiters) in by_partition {
        match look_at(receipts, partition, &waiters).await {
            Ok(verdicts) => {
                let mut waiting = Vec::new();
                for (mut waiter, verdict) in waiters.into_iter().zip(verdicts) {
                    match verdict {
                        Verdict::Waits(trace) => {
                            waiter.trace = Some(trace);
                            waiting.push(waiter);
                        }
                        verdict => settled.push((waiter, verdict)),
                    }
                }
                receipts.tracker.give_back(waiting);
            }
            Err(error) if matches!(error.kind(), BufferErrorKind::Unavailable | BufferErrorKind::Unknown) => {
                receipts.tracker.give_back(waiters);
            }
            Err(error) => {
                for waiter in waiters {
                    // A caller that has gone away does not want its answer.
                    let _ = waiter.done.send(Err(error.clone().into()));
                }
            }
        }
    }
    if settled.is_empty() {
        return;
    }
    // A buffer that lost the write looks as if it were flushed. Only a look that comes after says that it is not so.
    if settled.iter().any(|(_, verdict)| *verdict == Verdict::Persisted)
        && data_loss::look(&receipts.ctx).await.is_err()
    {
        let (sure, unsure) = settled.into_iter().partition(|(_, verdict)| *verdict != Verdict::Persisted);
        settled = sure;
        let unsure: Vec<(Waiter, Verdict)> = unsure;
        receipts.tracker.give_back(unsure.into_iter().map(|(waiter, _)| waiter).collect());
    }
    let losses = receipts.ctx.losses.load(Ordering::Acquire);
    for (waiter, verdict) in settled {
        let answer = match verdict {
            Verdict::Persisted if waiter.begun.losses == losses => Ok(()),
            Verdict::Dead => Err(receipts.dead_lettered(&waiter).await),
            Verdict::Stale => match receipts.ctx.space.stale(waiter.partition, &waiter.id).await {
                Ok(Some(version)) => Err(CacheError::Stale { id: waiter.id.to_string(), version }),
                // A later state of the key was settled since: its turn.
                Ok(None) => {
                    receipts.tracker.give_back(vec![waiter]);
                    continue;
                }
                Err(error) => Err(error.into()),
            },
            Verdict::Discarded => Err(CacheError::DeadLettered {
                id: waiter.id.to_string(),
                kind: "discarded".to_owned(),
                reason: "the sink refused it, and its dead letter was discarded".to_owned(),
            }),
            Verdict::Unsure => {
                let text = "too many writes were left out or discarded since to say whether this one was";
                Err(BufferError::new(BufferErrorKind::Unknown, text).into())
            }
            Verdict::Persisted | Verdict::Gone | Verdict::Lost | Verdict::Waits(_) => {
                let text = "the buffer lost data after the write, and nobody can say whether it was flushed";
                Err(BufferError::new(BufferErrorKind::Lost, text).into())
            }
        };
        let _ = waiter.done.send(answer);
    }
}

async fn look_at<E: Entity>(
    receipts: &Receipts<E>,
    partition: u16,
    waiters: &[Waiter],
) -> Result<Vec<Verdict>, BufferError> {
    let ids = waiters.iter().flat_map(|waiter| iter::once(&waiter.id).chain(&waiter.unreadable));
    let ids: Vec<Id> = ids.cloned().collect();
    let losses = receipts.ctx.losses.load(Ordering::Acquire);
    let looks = receipts.ctx.space.look(partition, &ids).await?;
    // Each id by the epochs of the instant at which it was looked for.
    let mut sights = looks.iter().flat_map(|look| look.sights.iter().map(move |sight| (look, *sight)));
    let mut verdicts = Vec::with_capacity(waiters.len());
    for waiter in waiters {
        let Some((look, mut sight)) = sights.next() else { break };
        if waiter.unreadable.is_some() {
            sight = sight.or(sights.next().map(|(_, other)| other).unwrap_or_default());
        }
        let trace = waiter.trace.unwrap_or_else(|| {
            let entries = waiter.unreadable.is_some().then_some(0);
            let Begun { losses, moment } = waiter.begun;
            // Of a write that somebody else has made before, nobody here can say whether it vanished before.
            let Some(moment) = moment else {
                return Trace { vanished: look.vanished_epoch, entries, ..Trace::default() };
            };
            let before = receipts.ctx.observed_epochs.before(partition, losses, moment);
            Trace { awaited: None, since: before.epoch, vanished: before.vanished, entries }
        });
        verdicts.push(judge_entry(trace, look, sight));
    }
    for look in &looks {
        receipts.ctx.observed_epochs.saw(partition, losses, look.open_epoch, Some(look.vanished_epoch));
    }
    let gone = waiters.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Gone);
    let gone = gone.map(|(waiter, _)| &waiter.id).collect::<HashSet<_>>().len() as u64;
    if let (1.., Some(look)) = (gone, looks.first()) {
        receipts.ctx.counters.vanished.add(gone);
        log::vanished(&receipts.ctx.scope, partition, look.open_epoch, gone);
    }
    Ok(verdicts)
}

impl<E: Entity> Receipts<E> {
    /// Why a write is a dead letter.
    async fn dead_lettered(&self, waiter: &Waiter) -> CacheError {
        let Waiter { partition, id, unreadable, .. } = waiter;
        let mut letter = Ok(None);
        for stands in unreadable.iter().chain([id]) {
            letter = self.ctx.space.letter(*partition, stands).await;
            if !matches!(letter, Ok(None)) {
                break;
            }
        }
        match letter {
            Ok(Some(letter)) => {
                CacheError::DeadLettered { id: id.to_string(), kind: letter.kind, reason: letter.error }
            }
            // Replayed or discarded since; it was dead when it was looked for.
            Ok(None) => CacheError::DeadLettered {
                id: id.to_string(),
                kind: "gone".to_owned(),
                reason: "the letter was taken away before it could be read".to_owned(),
            },
            Err(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Trace, Verdict, judge as judge_by};
    use crate::buffer::{Look, Sight};

    /// A look at one key, of which nothing is known but the epoch that is awaited.
    fn judge(awaited: Option<u64>, open_epoch: u64, flushed_epoch: u64, sight: Sight) -> Verdict {
        let at = Look { open_epoch, flushed_epoch, ..Look::default() };
        judge_by(awaited.map_or_else(Trace::default, Trace::seen), &at, sight)
    }

    fn waits(epoch: u64) -> Verdict {
        Verdict::Waits(Trace::seen(epoch))
    }

    #[test]
    fn an_epoch_that_has_vanished_is_not_flushed_by_a_later_one() {
        let at = |open_epoch: u64, vanished_epoch| {
            let flushed_epoch = open_epoch.saturating_sub(1);
            Look { open_epoch, flushed_epoch, vanished_epoch, ..Look::default() }
        };
        let in_seven = Trace::seen(7);
        assert_eq!(judge_by(in_seven, &at(9, 7), NOWHERE), Verdict::Lost);
        assert_eq!(judge_by(in_seven, &at(9, 6), NOWHERE), Verdict::Persisted, "an earlier one");
        let open = Sight { open: true, ..NOWHERE };
        assert_eq!(judge_by(in_seven, &at(9, 7), open), waits(9), "a newer state is on its way");
        assert_eq!(judge_by(in_seven, &at(7, 0), NOWHERE), Verdict::Gone, "it was open, and still is");
        let known = Trace { since: 7, ..Trace::default() };
        assert_eq!(judge_by(known, &at(7, 0), NOWHERE), Verdict::Gone, "it was written when seven was open");
        assert_eq!(judge_by(known, &at(8, 0), NOWHERE), Verdict::Persisted);
        let later = Trace { vanished: 5, ..Trace::default() };
        assert_eq!(judge_by(later, &at(7, 5), NOWHERE), Verdict::Persisted, "it had vanished before");
    }

    const NOWHERE: Sight =
        Sight { open: false, flushing: false, refused: false, dead: false, stale: false, discarded: false };

    #[test]
    fn a_write_waits_for_the_epoch_that_it_may_be_in() {
        let open = Sight { open: true, ..NOWHERE };
        let flushing = Sight { flushing: true, ..NOWHERE };
        assert_eq!(judge(None, 7, 5, open), waits(7));
        assert_eq!(judge(None, 7, 5, flushing), waits(6));
        // A newer state of a hot key is in a later epoch.
        assert_eq!(judge(Some(7), 8, 7, open), Verdict::Persisted);
        assert_eq!(judge(Some(7), 8, 6, open), waits(7));
        assert_eq!(judge(None, 7, 6, NOWHERE), Verdict::Persisted);
    }

    #[test]
    fn a_refused_write_waits_on_until_it_is_dead() {
        let again = Sight { open: true, refused: true, ..NOWHERE };
        let dead = Sight { dead: true, ..NOWHERE };
        assert_eq!(judge(Some(7), 9, 8, again), waits(9));
        assert_eq!(judge(Some(9), 10, 9, dead), Verdict::Dead);
        // The letter of an earlier state says nothing of a newer one that is on its way.
        assert_eq!(judge(None, 10, 9, Sight { open: true, ..dead }), waits(10));
        // It stays until a newer state is taken.
        assert_eq!(judge(Some(10), 11, 10, Sight { open: true, ..dead }), Verdict::Dead);
    }

    #[test]
    fn a_write_that_was_left_out_is_not_persisted() {
        let stale = Sight { stale: true, ..NOWHERE };
        assert_eq!(judge(Some(7), 8, 7, stale), Verdict::Stale);
        assert_eq!(judge(None, 8, 7, stale), Verdict::Stale, "asked for later");
        // The mark of an earlier state says nothing of a newer one that is on its way.
        assert_eq!(judge(None, 8, 7, Sight { open: true, ..stale }), waits(8));
        assert_eq!(judge(Some(8), 9, 7, Sight { flushing: true, ..stale }), waits(8));
        // A hot key: its next state is on its way, and is not waited for.
        assert_eq!(judge(Some(8), 9, 8, Sight { open: true, ..stale }), Verdict::Stale);
        // What was refused after it is tried again.
        assert_eq!(judge(Some(8), 9, 8, Sight { open: true, refused: true, ..stale }), waits(9));
    }

    #[test]
    fn what_was_left_out_or_discarded_and_forgotten_is_not_persisted() {
        let at = |unmarked_epoch| Look { open_epoch: 9, flushed_epoch: 8, unmarked_epoch, ..Look::default() };
        let of = |since, unmarked_epoch, sight| judge_by(Trace::seen(since), &at(unmarked_epoch), sight);
        assert_eq!(of(7, 6, NOWHERE), Verdict::Persisted);
        assert_eq!(of(7, 7, NOWHERE), Verdict::Unsure, "its mark may be gone");
        assert_eq!(judge_by(Trace::default(), &at(7), NOWHERE), Verdict::Unsure, "nobody knows when it was written");
        assert_eq!(of(7, 7, Sight { discarded: true, ..NOWHERE }), Verdict::Discarded);
        assert_eq!(
            of(8, 0, Sight { open: true, refused: true, discarded: true, ..NOWHERE }),
            waits(9),
            "a newer state"
        );
    }

    #[test]
    fn epochs_that_went_back_are_a_loss() {
        assert_eq!(judge(Some(7), 1, 0, NOWHERE), Verdict::Lost);
        assert_eq!(judge(Some(1), 1, 0, Sight { refused: true, ..NOWHERE }), Verdict::Lost);
    }
}
