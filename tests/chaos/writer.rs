//! Load: puts, deletes and updates of keys that nobody else writes, each of them logged before and after.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use write_behind::{BufferErrorKind, Cache, CacheError};

use crate::history::{Log, Outcome};
use crate::item::{Item, Record, noted_key};

/// Keys from here on, and again for each writer, are written once and never again: whatever loses one is seen, however
/// long ago it was.
const ONCE: i64 = 1_000_000_000;

/// What a writer does.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) keys: Range<i64>,
    pub(crate) tasks: i64,
    /// Above every number that these keys have seen.
    pub(crate) first_seq: i64,
    /// Between two operations of a task.
    pub(crate) pause: Duration,
    pub(crate) seed: u64,
    /// Whether there are keys that belong to the newer program.
    pub(crate) noted: bool,
}

/// How many keys of a task belong to the newer program.
const NOTED: i64 = 4;

/// Writes until `over`.
pub(crate) async fn write<T: Record>(cache: Cache<T>, log: Arc<Log>, load: Load, over: Arc<AtomicBool>) {
    let tasks: Vec<_> = (0..load.tasks)
        .map(|number| {
            let task = Task {
                cache: cache.clone(),
                log: log.clone(),
                keys: load
                    .keys
                    .clone()
                    .filter(|key| key % load.tasks == number)
                    .map(|key| (key, Known::default()))
                    .collect(),
                seq: load.first_seq,
                noted: (0..if load.noted { NOTED } else { 0 }).map(|n| noted_key(load.keys.start, number, n)).collect(),
                once: ONCE * (1 + load.keys.start) + number,
                step: load.tasks,
                random: StdRng::seed_from_u64(load.seed.wrapping_add(number.unsigned_abs())),
            };
            tokio::spawn(task.run(load.pause, over.clone()))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// What is known about a key.
#[derive(Debug, Default)]
struct Known {
    /// The last acknowledged operation; `None` while there is none of this process.
    last: Option<(i64, bool)>,
    /// Operations after it that may have been carried out.
    maybe: Vec<(i64, bool)>,
}

struct Task<T: Record> {
    cache: Cache<T>,
    log: Arc<Log>,
    keys: BTreeMap<i64, Known>,
    seq: i64,
    noted: Vec<i64>,
    /// Where this task's keys of one write begin, and how far each is from the next.
    once: i64,
    step: i64,
    random: StdRng,
}

impl<T: Record> Task<T> {
    async fn run(mut self, pause: Duration, over: Arc<AtomicBool>) {
        let keys: Vec<i64> = self.keys.keys().copied().collect();
        while !over.load(Ordering::Relaxed) {
            // Some keys are hot.
            let range = if self.random.random_ratio(1, 2) { 0..keys.len().div_ceil(10) } else { 0..keys.len() };
            let key = keys[self.random.random_range(range)];
            if self.random.random_ratio(1, 10) {
                self.seq += 1;
                self.operate(self.once + self.seq * self.step, self.seq, false).await;
                tokio::time::sleep(pause).await;
                continue;
            }
            if !self.noted.is_empty() && self.random.random_ratio(1, 6) {
                self.seq += 1;
                let key = self.noted[self.random.random_range(0..self.noted.len())];
                self.renew(key, self.seq).await;
                tokio::time::sleep(pause).await;
                continue;
            }
            let (delete, read) = match self.random.random_range(0..100) {
                0..15 => (true, false),
                15..40 => (false, true),
                _ => (false, false),
            };
            if read {
                self.look(key).await;
            }
            self.seq += 1;
            let seq = self.seq;
            let mut outcome = self.operate(key, seq, delete).await;
            if outcome == Outcome::Unknown && self.random.random_ratio(1, 2) {
                tokio::time::sleep(pause).await;
                // Repeating is safe.
                outcome = self.operate(key, seq, delete).await.max(outcome);
            }
            let known = self.keys.get_mut(&key).unwrap();
            match outcome {
                Outcome::Acknowledged => *known = Known { last: Some((seq, delete)), maybe: Vec::new() },
                Outcome::Unknown => known.maybe.push((seq, delete)),
                Outcome::Refused => {}
            }
            let wait = if outcome == Outcome::Acknowledged { pause } else { pause.max(Duration::from_millis(20)) };
            tokio::time::sleep(wait).await;
        }
    }

    async fn operate(&self, key: i64, seq: i64, delete: bool) -> Outcome {
        self.log.intent(key, seq, delete);
        let result = if delete { self.cache.delete(&key).await } else { self.cache.put(&T::state(key, seq)).await };
        let outcome = outcome(&result.map(drop));
        self.log.answer(key, seq, outcome);
        outcome
    }

    /// The newer program puts a record with its note, and both update it and read it, which must leave the note.
    async fn renew(&mut self, key: i64, seq: i64) {
        if self.random.random_ratio(1, 3) {
            // Fills a copy, whatever it finds.
            let _ = self.cache.get(&key).await;
        }
        self.log.intent(key, seq, false);
        let result = if T::NEWER && self.random.random_ratio(1, 2) {
            self.cache.put(&T::state(key, seq)).await.map(drop)
        } else {
            self.cache.update(&key, move |record| record.renew(seq)).await.map(drop)
        };
        self.log.answer(key, seq, outcome(&result));
    }

    /// A read sees the last acknowledged state, or a later one that may have been carried out.
    async fn look(&self, key: i64) {
        let known = &self.keys[&key];
        let Some(last) = known.last else { return };
        // A failure says nothing.
        let Ok(found) = self.cache.get(&key).await else { return };
        let found = found.map(Record::item);
        let mut possible = std::iter::once(&last).chain(&known.maybe);
        let explained = match &found {
            None => possible.any(|&(_, delete)| delete),
            Some(item) => possible.any(|&(seq, delete)| !delete && *item == Item::state(key, seq)),
        };
        if !explained {
            let found = found.map(|item| item.seq);
            self.log.stale(key, &format!("found {found:?}, not {last:?} or {:?}", known.maybe));
        }
    }
}

fn outcome(result: &Result<(), CacheError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Acknowledged,
        Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Unknown => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    }
}
