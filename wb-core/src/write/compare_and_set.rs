//! change: read what stands, apply what is wanted, compare and set; again when another process was faster.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::buffer::record::{Record, Write};
use crate::buffer::{Lookup, Origin, Stored, Swap, Token};
use crate::entity::Entity;
use crate::entity::decode::decode_payload;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::error::{CacheError, codec};
use crate::options::{MaxDirty, Overflow};
use crate::runtime::backoff::{LOOK_AGAIN, NEVER};
use crate::runtime::shapes::Lacks;
use crate::write::Writer;
use crate::write::change_queue::{Change, State, Target};

/// How often a change is tried while other processes change the same record.
pub(crate) const TRIES: u32 = 200;

/// Longest wait between two tries; the first ones are much shorter. Jittered, so that processes get out of step.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// Least life of a state that was loaded from the sink to be compared with, also where clean copies are switched off.
const ANCHOR_TTL: Duration = Duration::from_secs(5);

/// How long the load of another process is waited for before its mark is taken away.
const FOREIGN_LOAD: Duration = Duration::from_millis(200);

/// What stands, as a compare-and-set finds it.
pub(crate) struct Standing {
    pub(crate) stored: Stored,
    pub(crate) floor: Option<i64>,
    /// Whether it was loaded, and lacks fields that newer programs know.
    lacks: Lacks,
}

impl<E: Entity> Writer<E> {
    /// Applies changes to one record and tells each what became of it.
    pub(crate) async fn round(&self, target: &Target<E::Key>, mut queue: Vec<Box<dyn Change<E>>>) {
        let mut wait = Waiting::new(self);
        let outcome = loop {
            queue.retain(|change| change.is_wanted());
            if queue.is_empty() {
                return;
            }
            let standing = match self.standing(target).await {
                Ok(standing) => standing,
                Err(error) => break Err(error),
            };
            let look = self.recheck.look();
            let Applied { state, made, refused } = self.apply(target, &standing, &mut queue);
            if let Lacks::Perhaps(until) = standing.lacks
                && refused.iter().any(|(_, error)| matches!(error, CacheError::Outdated { .. }))
            {
                // The buffer has just begun its list of shapes. Who is newer has said so by then.
                queue.extend(refused.into_iter().map(|(change, _)| change));
                match self.unless_over(until, std::future::pending::<()>()).await {
                    Ok(_) => continue,
                    Err(error) => break Err(error),
                }
            }
            if refused.iter().any(|(_, error)| matches!(error, CacheError::Unstorable { .. }))
                && self.recheck(look).await
            {
                // By what the schema was. They come after those that were not refused.
                queue.extend(refused.into_iter().map(|(change, _)| change));
                continue;
            }
            for (change, error) in refused {
                change.settle(Err(error));
            }
            if state == standing.stored.record {
                break Ok(());
            }
            let write = Write { partition: target.partition, id: target.id.clone(), record: state };
            let losses = self.ctx.losses.load(Ordering::Acquire);
            let swapped = {
                // Over before anybody is told.
                let _near = self.ctx.near.writing([&write.id]);
                self.ctx.space.swap(&standing.stored, &write).await
            };
            match swapped {
                Ok(Swap::Stored) => {
                    self.ctx.wrote(losses, [&write.id]);
                    self.ctx.counters.puts.add(made);
                    break Ok(());
                }
                Ok(Swap::Changed) => {
                    if !wait.conflict().await {
                        break Err(CacheError::Contended { id: target.id.to_string(), tries: TRIES });
                    }
                }
                Err(error) if error.kind() == BufferErrorKind::Full => {
                    if let Err(error) = wait.room(error).await {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error.into()),
            }
        };
        for change in queue {
            change.settle(outcome.clone());
        }
    }

    /// Applies the changes one after the other; those that fail are taken out.
    fn apply(&self, target: &Target<E::Key>, standing: &Standing, queue: &mut Vec<Box<dyn Change<E>>>) -> Applied<E> {
        let (mut state, mut made, mut refused) = (standing.stored.record.clone(), 0, Vec::new());
        let mut going = Vec::with_capacity(queue.len());
        for mut change in queue.drain(..) {
            // What another change of this round has made is no row of the sink.
            let floor = standing.floor.filter(|_| state.is_tombstone());
            match change.apply(self, target, &State { record: &state, floor, outdated: standing.lacks != Lacks::No }) {
                Ok(Some(next)) => {
                    state = next;
                    made += 1;
                }
                Ok(None) => {}
                Err(error) => {
                    refused.push((change, error));
                    continue;
                }
            }
            going.push(change);
        }
        *queue = going;
        Applied { state, made, refused }
    }

    /// What stands, where a compare-and-set finds it: what is known from nowhere else is loaded and left as the clean copy,
    /// because "nothing is there" is no proof that nothing happened.
    pub(crate) async fn standing(&self, target: &Target<E::Key>) -> Result<Standing, CacheError> {
        let Target { partition, id, key } = target;
        // The load of another process, and since when it is known here.
        let mut foreign: Option<(Token, Instant)> = None;
        loop {
            self.ctx.intake.open()?;
            let found = self.ctx.space.get(*partition, std::slice::from_ref(id)).await?.pop().unwrap_or(Lookup::Absent);
            let over = match found {
                Lookup::Dirty(record) => return self.stands(target, Stored::written(record)).await,
                Lookup::Clean(stored) if self.ctx.shapes.can_read(stored.origin) => {
                    return self.stands(target, stored).await;
                }
                Lookup::Loading(token) if known_for(&mut foreign, &token) < FOREIGN_LOAD => {
                    // Shared with a reader of this process, or an own one beside that of another process.
                    let _ = self
                        .reader
                        .single_flight
                        .join(id, &token, || self.reader.load_one(id.clone(), key.clone()))
                        .await?;
                    sleep(LOOK_AGAIN.0).await;
                    continue;
                }
                Lookup::Loading(token) => {
                    // Its process is slow or dead. Without its mark it fills nothing in, and nobody is misled.
                    let nothing = Stored::written(Record::tombstone());
                    self.ctx.space.fill(*partition, id, &token, &nothing, Duration::ZERO).await?;
                    continue;
                }
                // It lacks what its loader does not know.
                Lookup::Clean(stored) => Some(stored),
                Lookup::Absent => None,
            };
            self.reader.load_gate.open()?;
            let token = Token::fresh();
            // Not `leave_token`: a buffer without room takes no change either.
            if !self.ctx.space.token(*partition, id, &token, over.as_ref(), self.reader.token_ttl()).await? {
                continue;
            }
            let record =
                self.reader.single_flight.join(id, &token, || self.reader.load_one(id.clone(), key.clone())).await?;
            let ttl = if record.is_tombstone() { self.ctx.options.negative_ttl } else { self.ctx.options.cache_ttl };
            let stored = self.ctx.shapes.loaded(record);
            if self.ctx.space.fill(*partition, id, &token, &stored, ttl.max(ANCHOR_TTL)).await? {
                let lacks = self.lacks_fields(stored.origin).await?;
                return Ok(Standing { stored, floor: None, lacks });
            }
        }
    }

    async fn stands(&self, target: &Target<E::Key>, stored: Stored) -> Result<Standing, CacheError> {
        let floor = if stored.record.is_tombstone() { self.floor(target).await? } else { None };
        let lacks = self.lacks_fields(stored.origin).await?;
        Ok(Standing { stored, floor, lacks })
    }

    /// Whether a state of this origin lacks fields that newer programs know. The list is looked at anew: a newer program may
    /// have written the row since the last look. One that writes it after this look takes the copy away, and the swap fails.
    async fn lacks_fields(&self, origin: Origin) -> Result<Lacks, CacheError> {
        if origin == Origin::Written {
            return Ok(Lacks::No);
        }
        self.ctx.shapes.look(&*self.ctx.space).await?;
        Ok(self.ctx.shapes.lack(origin))
    }

    /// Version of the row that a delete has not reached yet. A lower one put in its place would be overtaken by the row.
    async fn floor(&self, target: &Target<E::Key>) -> Result<Option<i64>, CacheError> {
        if !E::VERSIONED {
            return Ok(None);
        }
        let row = self.reader.load_one(target.id.clone(), target.key.clone()).await?;
        let Some(payload) = row.payload() else { return Ok(None) };
        let row: E = decode_payload(payload).map_err(|source| codec(&target.id, source))?;
        Ok(row.version())
    }
}

/// How long this very load has been known. Each has its time: who takes the marks of others away as soon as it sees them, because
/// it has waited long itself, and meets another one that does so too, would go on for ever.
fn known_for(foreign: &mut Option<(Token, Instant)>, token: &Token) -> Duration {
    match foreign {
        Some((known, since)) if known == token => since.elapsed(),
        _ => {
            *foreign = Some((token.clone(), Instant::now()));
            Duration::ZERO
        }
    }
}

/// What the changes of a round come to.
struct Applied<E: Entity> {
    state: Record,
    /// Changes that made a new state.
    made: u64,
    refused: Vec<(Box<dyn Change<E>>, CacheError)>,
}

/// The waits of one round.
pub(crate) struct Waiting<'a, E: Entity> {
    writer: &'a Writer<E>,
    tries: u32,
    /// Until when room is waited for.
    until: Option<Instant>,
}

impl<'a, E: Entity> Waiting<'a, E> {
    pub(crate) const fn new(writer: &'a Writer<E>) -> Self {
        Self { writer, tries: 0, until: None }
    }

    /// Another process was faster; `false` when it was often enough.
    pub(crate) async fn conflict(&mut self) -> bool {
        self.tries += 1;
        if self.tries >= TRIES {
            return false;
        }
        if self.tries > 1 {
            let longest = LONGEST_WAIT.min(Duration::from_micros(100) * self.tries * self.tries);
            sleep(longest.mul_f64(rand::random())).await;
        }
        true
    }

    /// There is no room; waits for some where the entity's options say so.
    pub(crate) async fn room(&mut self, full: BufferError) -> Result<(), CacheError> {
        let Some(MaxDirty { overflow: Overflow::Wait { timeout }, .. }) = self.writer.ctx.options.max_dirty else {
            return Err(full.into());
        };
        let now = Instant::now();
        let until = *self.until.get_or_insert_with(|| now.checked_add(timeout).unwrap_or(now + NEVER));
        self.writer.ctx.trigger.nudge();
        match self.writer.unless_over(until, sleep(LOOK_AGAIN.1.min(until.saturating_duration_since(now)))).await? {
            Some(()) if Instant::now() < until => Ok(()),
            _ => Err(full.into()),
        }
    }
}
