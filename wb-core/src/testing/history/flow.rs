//! Histories of the verbs of a space, one at a time.
#![expect(clippy::panic, reason = "a history that breaks a promise ends the test that plays it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::KEYS;
use crate::buffer::record::{Record, Write};
use crate::buffer::{
    Attempts, Buffer, Clean, DeadLetter, Done, Lookup, Registration, Rotation, Space, Stamp, Step as Verb, Stored,
    Token,
};
use crate::entity::codec::Format;
use crate::entity::key::Id;
use crate::error::buffer::BufferError;
use crate::telemetry::scope::Scope;

/// The only partition that a history uses.
const HERE: u16 = 0;
const LONG: Duration = Duration::from_secs(600);

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A new state of a key.
    Put(u8),
    /// A delete of a key.
    Delete(u8),
    /// New states of three keys in one call.
    PutMany(u8),
    /// The worker closes the open epoch.
    Rotate,
    /// The worker reads a page of so many records.
    Claim(u8),
    /// The worker writes so many of its claimed records to the sink.
    Flush(u8),
    /// The worker acknowledges so many of the written records.
    Ack(u8),
    /// The worker gives so many claimed records back, which the sink is said to have refused.
    Back(u8),
    /// The worker buries so many claimed records.
    Bury(u8),
    /// The worker dies, and its lease ends.
    Crash,
    /// The lease goes to a new worker, while the old one goes on with what it has claimed.
    Takeover,
    /// The worker that lost its lease writes, acknowledges, gives back and buries all it has.
    Wake,
    /// Somebody replays the dead letter of a key, if there is one.
    Replay(u8),
    /// Somebody discards the dead letter of a key, if there is one.
    Discard(u8),
    /// A reader marks a key as being loaded, and reads the sink.
    Load(u8),
    /// A reader fills in what it has loaded.
    Fill(u8),
}

impl Step {
    fn of((kind, n): (u8, u8)) -> Self {
        let key = n % KEYS;
        match kind % 22 {
            0..=3 => Self::Put(key),
            4 => Self::Delete(key),
            5 => Self::PutMany(key),
            6 | 7 => Self::Rotate,
            8 | 9 => Self::Claim(n % 5 + 1),
            10 | 11 => Self::Flush(n % 4 + 1),
            12 | 13 => Self::Ack(n % 4 + 1),
            14 => Self::Back(n % 2 + 1),
            15 => Self::Bury(1),
            16 => Self::Load(key),
            17 => Self::Fill(key),
            18 if n < 128 => Self::Crash,
            18 => Self::Takeover,
            19 => Self::Wake,
            20 => Self::Replay(key),
            _ => Self::Discard(key),
        }
    }
}

/// The steps that these bytes mean.
#[must_use]
pub fn steps(bytes: &[(u8, u8)]) -> Vec<Step> {
    bytes.iter().copied().map(Step::of).collect()
}

/// A worker, with what it has in hand. It believes to own the partition whether it does or not.
struct Worker {
    name: String,
    generation: u64,
    epoch: u64,
    cursor: u64,
    claimed: Vec<(Id, Record)>,
    written: Vec<Id>,
}

/// A reader between its look at the sink and its filling in.
struct Load {
    key: u8,
    token: Token,
    found: Record,
}

/// Everything around the space, and what must be true of it.
struct World {
    space: Arc<dyn Space>,
    clean: Clean,
    /// Last acknowledged state of each key.
    state: BTreeMap<u8, Record>,
    /// The sink, and the generation that it fences with.
    sink: BTreeMap<Id, Record>,
    generation: u64,
    /// Every state that was ever acknowledged, in order, so that "older" means something.
    order: BTreeMap<Id, Vec<Record>>,
    /// Keys whose last state may be a dead letter.
    buried: BTreeSet<u8>,
    worker: Worker,
    ghost: Option<Worker>,
    loads: Vec<Load>,
    writes: u32,
}

/// Plays a history on a space of its own, then flushes all of it.
///
/// # Panics
/// When a reader sees anything but the last acknowledged state, the sink goes back, a stale worker moves anything, or
/// the sink does not end as the acknowledged states say.
pub async fn play(buffer: &(impl Buffer + ?Sized), steps: &[Step], cache: bool) {
    let namespace = format!("history-{}", uuid::Uuid::new_v4().simple());
    let scope = Arc::new(Scope::new(namespace, "specimen", 1));
    let space = done("space", buffer.space(Registration::new(scope, Format::Json)).await);
    let ttl = if cache { LONG } else { Duration::ZERO };
    let mut world = World {
        space,
        clean: Clean { ttl, negative_ttl: LONG },
        state: BTreeMap::new(),
        sink: BTreeMap::new(),
        generation: 0,
        order: BTreeMap::new(),
        buried: BTreeSet::new(),
        worker: Worker::new(0),
        ghost: None,
        loads: Vec::new(),
        writes: 0,
    };
    world.hire().await;
    for (number, step) in steps.iter().enumerate() {
        world.step(*step).await;
        world.check(&format!("after step {number}, {step:?}")).await;
    }
    world.drain().await;
}

fn done<T>(doing: &str, result: Result<T, BufferError>) -> T {
    result.unwrap_or_else(|error| panic!("{doing}: {error}"))
}

fn id(key: u8) -> Id {
    Id::from_bytes(vec![b'k', key]).unwrap_or_else(|error| panic!("no id: {error}"))
}

impl Worker {
    fn new(generation: u64) -> Self {
        Self {
            name: format!("worker {generation}"),
            generation,
            epoch: 0,
            cursor: 0,
            claimed: Vec::new(),
            written: Vec::new(),
        }
    }

    fn verb(&self) -> Verb<'_> {
        Verb { partition: HERE, owner: &self.name, epoch: self.epoch, stamp: Stamp::default() }
    }

    fn claimed(&mut self, count: u8) -> Vec<(Id, Record)> {
        self.claimed.drain(..usize::from(count).min(self.claimed.len())).collect()
    }
}

impl World {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Put(key) => self.put(&[key], false).await,
            Step::Delete(key) => self.put(&[key], true).await,
            Step::PutMany(key) => self.put(&[key, (key + 1) % KEYS, key, (key + 3) % KEYS], false).await,
            Step::Rotate => match done("rotate", self.space.rotate(HERE, &self.worker.name, Stamp::default()).await) {
                Rotation::Epoch(epoch) if epoch != self.worker.epoch => {
                    let Worker { name, generation, .. } = &self.worker;
                    self.worker = Worker { name: name.clone(), epoch, ..Worker::new(*generation) };
                }
                Rotation::Epoch(_) | Rotation::Marked(_) | Rotation::Empty => {}
                Rotation::NotOwner => panic!("the owner cannot rotate"),
            },
            Step::Claim(limit) if self.worker.epoch > 0 => {
                let page = done("claim", self.space.claim(HERE, self.worker.cursor, limit.into()).await);
                self.worker.cursor = page.cursor;
                self.worker.claimed.extend(page.records);
            }
            Step::Flush(count) => {
                let records = self.worker.claimed(count);
                let generation = self.worker.generation;
                self.worker.written.extend(records.iter().map(|(id, _)| id.clone()));
                assert!(self.write(generation, &records), "the owner is fenced");
            }
            Step::Ack(count) => {
                let count = usize::from(count).min(self.worker.written.len());
                let ids: Vec<Id> = self.worker.written.drain(..count).collect();
                if !ids.is_empty() {
                    let verb = self.worker.verb();
                    let settled = done("ack", self.space.ack(&verb, &ids, self.clean).await);
                    assert_ne!(settled, Done::NotOwner, "the owner cannot ack");
                }
            }
            Step::Back(count) => {
                let records = self.worker.claimed(count);
                if !records.is_empty() {
                    assert_ne!(self.back(&self.worker, &records).await, Done::NotOwner, "the owner cannot give back");
                }
            }
            Step::Bury(count) => {
                let records = self.worker.claimed(count);
                if !records.is_empty() {
                    // A page may name a record twice; a worker settles it once.
                    self.worker.claimed.retain(|(id, _)| records.iter().all(|(other, _)| other != id));
                    assert_ne!(self.bury(&self.worker, &records).await, Done::NotOwner, "the owner cannot bury");
                    self.buried.extend((0..KEYS).filter(|key| records.iter().any(|(other, _)| *other == id(*key))));
                }
            }
            Step::Crash => self.replace(false).await,
            Step::Takeover => self.replace(true).await,
            Step::Wake => self.wake().await,
            Step::Load(key) => {
                let token = Token::fresh();
                // Tokens are left only where a reader has found nothing.
                if matches!(self.look(key).await, Lookup::Absent)
                    && done("token", self.space.token(HERE, &id(key), &token, None, LONG).await)
                {
                    let found = self.sink.get(&id(key)).cloned().unwrap_or_else(Record::tombstone);
                    self.loads.push(Load { key, token, found });
                }
            }
            Step::Fill(key) => {
                if let Some(position) = self.loads.iter().position(|load| load.key == key) {
                    let Load { token, found, .. } = self.loads.swap_remove(position);
                    let found = Stored::loaded(found, 7);
                    done("fill", self.space.fill(HERE, &id(key), &token, &found, self.clean.ttl).await);
                }
            }
            Step::Replay(key) => {
                done("replay", self.space.replay(HERE, &[id(key)]).await);
            }
            Step::Discard(key) => {
                let superseded = matches!(self.look(key).await, Lookup::Dirty(_));
                if done("discard", self.space.discard(HERE, &[id(key)]).await) > 0 && !superseded {
                    // Given up for good: the sink's row is the state again.
                    match self.sink.get(&id(key)) {
                        Some(row) => self.state.insert(key, row.clone()),
                        None => self.state.remove(&key),
                    };
                }
            }
            Step::Claim(_) => {}
        }
    }

    async fn put(&mut self, keys: &[u8], delete: bool) {
        let mut writes = Vec::new();
        for &key in keys {
            self.writes += 1;
            let record =
                if delete { Record::tombstone() } else { Record::from_bytes(format!("{key}@{}", self.writes)) };
            self.state.insert(key, record.clone());
            self.order.entry(id(key)).or_default().push(record.clone());
            writes.push(Write { partition: HERE, id: id(key), record });
        }
        done("put", self.space.put(writes).await);
    }

    /// A batch at the sink: applied if no later owner has fenced it off.
    fn write(&mut self, generation: u64, records: &[(Id, Record)]) -> bool {
        if generation < self.generation {
            return false;
        }
        for (id, record) in records {
            let order = self.order.get(id).map(Vec::as_slice).unwrap_or_default();
            // Tombstones look alike: the newest place a state may stand for is the one that counts.
            let newest = |state: &Record| order.iter().rposition(|other| other == state);
            if let Some(before) = self.sink.get(id) {
                assert!(newest(record) >= order.iter().position(|other| other == before), "the sink goes back: {id}");
            }
            self.sink.insert(id.clone(), record.clone());
        }
        true
    }

    async fn back(&self, worker: &Worker, records: &[(Id, Record)]) -> Done {
        let attempts = Attempts { count: 1, first_ms: 1, ..Attempts::default() };
        let records: Vec<_> = records.iter().map(|(id, _)| (id.clone(), attempts)).collect();
        done("back", self.space.back(&worker.verb(), &records).await).done
    }

    async fn bury(&self, worker: &Worker, records: &[(Id, Record)]) -> Done {
        let letter = |record| DeadLetter::new(record, "rejected", "no".to_owned(), 1, 1, 1);
        let letters: Vec<_> = records.iter().map(|(id, record)| (id.clone(), letter(record))).collect();
        done("bury", self.space.bury(&worker.verb(), &letters).await).done
    }

    /// A new worker takes the partition, and fences it before it does anything else.
    async fn hire(&mut self) {
        self.generation += 1;
        self.worker = Worker::new(self.generation);
        let taken = done("take", self.space.take(&[HERE], &self.worker.name, LONG).await);
        assert_eq!(taken, [true], "the lease is free");
    }

    async fn replace(&mut self, lives_on: bool) {
        // What the end of a lease's time does, without the wait.
        done("release", self.space.release(&[HERE], &self.worker.name).await);
        let old = std::mem::replace(&mut self.worker, Worker::new(0));
        self.ghost = lives_on.then_some(old);
        self.hire().await;
    }

    async fn wake(&mut self) {
        let Some(ghost) = self.ghost.take() else { return };
        assert!(ghost.claimed.is_empty() || !self.write(ghost.generation, &ghost.claimed), "a stale worker is fenced");
        let ids: Vec<Id> = ghost.claimed.iter().map(|(id, _)| id.clone()).chain(ghost.written.clone()).collect();
        let steps = [
            done("ack", self.space.ack(&ghost.verb(), &ids, self.clean).await).done,
            self.back(&ghost, &ghost.claimed).await,
            self.bury(&ghost, &ghost.claimed).await,
        ];
        // An empty call may have nothing to refuse.
        let refused = |done: &Done| *done == Done::NotOwner || ids.is_empty() || ghost.claimed.is_empty();
        assert!(steps.iter().all(refused), "a stale worker moves something: {steps:?}");
    }

    async fn look(&self, key: u8) -> Lookup {
        done("get", self.space.get(HERE, &[id(key)]).await).pop().unwrap_or(Lookup::Absent)
    }

    /// Every reader sees the last acknowledged state, now.
    async fn check(&self, when: &str) {
        let ids: Vec<Id> = (0..KEYS).map(id).collect();
        let found = done("get", self.space.get(HERE, &ids).await);
        for (key, found) in (0..KEYS).zip(found) {
            let seen = match found {
                Lookup::Dirty(record) | Lookup::Clean(Stored { record, .. }) => record,
                Lookup::Loading(_) | Lookup::Absent => {
                    self.sink.get(&id(key)).cloned().unwrap_or_else(Record::tombstone)
                }
            };
            let expected = self.state.get(&key).cloned().unwrap_or_else(Record::tombstone);
            assert_eq!(seen, expected, "{when}: key {key} reads wrong");
        }
    }

    /// A last worker flushes everything; then the sink holds the acknowledged states, but for dead letters.
    async fn drain(&mut self) {
        self.replace(false).await;
        // One epoch may be left behind, one is open.
        for _ in 0..2 {
            self.step(Step::Rotate).await;
            let mut settled = self.worker.epoch == 0;
            while !settled {
                self.step(Step::Claim(3)).await;
                self.step(Step::Flush(u8::MAX)).await;
                self.step(Step::Ack(u8::MAX)).await;
                self.check("while draining").await;
                settled = self.worker.cursor == 0;
            }
        }
        let status = done("status", self.space.status(HERE).await);
        assert_eq!(status.dirty(), 0, "everything is flushed: {status:?}");
        for (key, expected) in &self.state {
            let held = self.sink.get(&id(*key)).cloned();
            if held.as_ref() != Some(expected) {
                let letter = done("letter", self.space.letter(HERE, &id(*key)).await);
                let kept = letter.is_some_and(|letter| letter.payload == expected.as_bytes());
                assert!(self.buried.contains(key) && kept, "key {key}: acknowledged {expected:?}, flushed {held:?}");
            }
        }
    }
}
