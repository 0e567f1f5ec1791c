//! put, delete: one write into the buffer, acknowledged when the buffer has it.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::record::{Record, Write};
use crate::entity::Entity;
use crate::entity::codec::{CodecError, Format, holds_null, is_deep, with_nulls};
use crate::entity::decode::decode_payload;
use crate::entity::key::Id;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::error::sink::Unstorable;
use crate::error::{CacheError, codec};
use crate::options::{MaxDirty, Overflow};
use crate::runtime::backoff::{LOOK_AGAIN, NEVER};
use crate::write::Writer;

impl<E: Entity> Writer<E> {
    pub(crate) async fn put(&self, writes: Vec<Write>) -> Result<(), CacheError> {
        let count = writes.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let _place = self.ctx.intake.enter()?;
        self.ctx.readiness.takes_writes()?;
        let _near = self.ctx.near.writing(writes.iter().map(|write| &write.id));
        let losses = self.ctx.losses.load(Ordering::Acquire);
        // Nothing to clone as long as nothing was lost.
        let lossy = losses > self.ctx.losses_before.load(Ordering::Acquire);
        let ids: Vec<Id> = writes.iter().filter(|_| lossy).map(|write| write.id.clone()).collect();
        match self.ctx.options.max_dirty {
            Some(MaxDirty { keys, overflow: Overflow::Wait { timeout } }) if can_fit(&writes, keys, E::APPEND) => {
                self.put_when_room(writes, timeout).await?;
            }
            _ => self.store(writes).await?,
        }
        self.ctx.wrote(losses, &ids);
        self.ctx.counters.puts.add(count);
        Ok(())
    }

    /// Into the log where records are only added.
    async fn store(&self, writes: Vec<Write>) -> Result<(), BufferError> {
        if E::APPEND { self.ctx.space.append(writes).await } else { self.ctx.space.put(writes).await }
    }

    /// Tries until there is room, or the time is up. A try is stored whole or refused whole, and none is broken off: what
    /// was given up is not stored.
    async fn put_when_room(&self, writes: Vec<Write>, timeout: Duration) -> Result<(), CacheError> {
        let now = Instant::now();
        let until = now.checked_add(timeout).unwrap_or(now + NEVER);
        let mut cycles = self.ctx.cycles.subscribe();
        let Some(mut full) = self.try_put(&writes).await? else { return Ok(()) };
        // A few try at a time, in the order in which they came; the others wait for their turn.
        let _turn = match self.unless_over(until, self.room.acquire()).await? {
            Some(turn) => turn,
            None => return Err(full.into()),
        };
        let mut pause = LOOK_AGAIN.0;
        loop {
            // Either this process flushes and says so, or another one does and has to be asked.
            self.ctx.trigger.nudge();
            let cycle = tokio::time::timeout(LOOK_AGAIN.1, cycles.changed());
            if self.unless_over(until, cycle).await?.is_none() {
                return Err(full.into());
            }
            match self.try_put(&writes).await? {
                None => return Ok(()),
                Some(error) => full = error,
            }
            // This process's cycles end at once when the dirty partitions are another one's.
            if self.unless_over(until, tokio::time::sleep(pause)).await?.is_none() {
                return Err(full.into());
            }
            pause = (pause * 2).min(LOOK_AGAIN.1);
        }
    }

    /// Waits for this, but not beyond `until` (`None`) nor beyond the end of intake: shutdown waits for the writes that are
    /// in, and this one is not stored yet.
    pub(crate) async fn unless_over<T>(
        &self,
        until: Instant,
        wait: impl Future<Output = T>,
    ) -> Result<Option<T>, CacheError> {
        tokio::select! {
            biased;
            () = self.ctx.intake.closed() => Err(CacheError::Closed),
            reason = self.ctx.intake.over() => Err(reason),
            done = wait => Ok(Some(done)),
            () = tokio::time::sleep_until(until) => Ok(None),
        }
    }

    /// `Some` when there is no room.
    async fn try_put(&self, writes: &[Write]) -> Result<Option<BufferError>, CacheError> {
        match self.store(writes.to_vec()).await {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == BufferErrorKind::Full => Ok(Some(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// The write that makes `value` the state of its key; everything that can be wrong with it is found here.
    pub(crate) fn upsert(&self, value: &E) -> Result<Write, CacheError> {
        let id = Id::of(&value.key())?;
        let payload = value.encode().map_err(|source| codec(&id, source))?;
        let cut =
            self.ctx.sink.cuts(value).then(|| self.cut(&payload)).transpose().map_err(|source| codec(&id, source))?;
        let (value, payload) = match &cut {
            Some((value, payload)) => (value, payload.clone()),
            None => (value, payload),
        };
        let payload = explicit::<E>(payload);
        if E::FORMAT == Format::Json && (holds_null(&payload) || is_deep(&payload)) {
            // What a `Serialize` of one's own writes as null its `Deserialize` need not read, and the decoder follows some levels only.
            E::decode(&payload).map_err(|source| codec(&id, source))?;
        }
        let size = id.as_bytes().len() + payload.len();
        if size > self.ctx.options.max_record_bytes {
            return Err(CacheError::TooLarge { id: id.to_string(), size, limit: self.ctx.options.max_record_bytes });
        }
        if payload.is_empty() {
            // The empty payload is the tombstone: storing it would delete the row.
            return Err(CacheError::Empty { id: id.to_string() });
        }
        if self.ctx.hook.is_none() {
            let unstorable = |Unstorable { field, reason }| CacheError::Unstorable {
                id: id.to_string(),
                field: field.into_owned(),
                reason: reason.into_owned(),
            };
            self.ctx.sink.check(value).map_err(unstorable)?;
        }
        let partition = self.ctx.partition(&id, || value.place())?;
        Ok(Write { partition, id, record: Record::from_bytes(payload) })
    }

    /// The value of this payload without what the sink does not keep of it.
    fn cut(&self, payload: &[u8]) -> Result<(E, Vec<u8>), CodecError> {
        let mut value = E::decode(payload)?;
        self.ctx.sink.cut(&mut value);
        let payload = value.encode()?;
        Ok((value, payload))
    }

    pub(crate) fn tombstone(&self, key: &E::Key) -> Result<Write, CacheError> {
        let id = Id::of(key)?;
        let size = id.as_bytes().len();
        if size > self.ctx.options.max_record_bytes {
            return Err(CacheError::TooLarge { id: id.to_string(), size, limit: self.ctx.options.max_record_bytes });
        }
        let partition = self.ctx.partition_of(&id, key)?;
        Ok(Write { partition, id, record: Record::tombstone() })
    }
}

/// Whether these writes have room when nothing else is dirty; else no wait helps.
fn can_fit(writes: &[Write], keys: u64, append: bool) -> bool {
    let distinct = || writes.iter().map(|write| &write.id).collect::<HashSet<_>>().len() as u64;
    writes.len() as u64 <= keys || (!append && distinct() <= keys)
}

/// A payload that says also which fields are empty: one that leaves them out looks like an older program's, which would be
/// flushed by it, and would leave their columns as they are.
fn explicit<E: Entity>(payload: Vec<u8>) -> Vec<u8> {
    if E::OMITS.is_empty() {
        return payload;
    }
    let Some(full) = with_nulls(E::FORMAT, &payload, E::OMITS) else { return payload };
    // Only where it means the same: a field may have another default, or no null.
    let again = decode_payload::<E>(&full).and_then(|value| value.encode());
    if again.is_ok_and(|again| again == payload) { full } else { payload }
}
