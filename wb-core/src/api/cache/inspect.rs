//! Looks at the buffer itself, and at what it keeps of the sink.

use std::fmt;
use std::str::FromStr;

use crate::api::cache::Cache;
use crate::api::dead_letters::NotACursor;
use crate::buffer::Operation;
use crate::entity::Entity;
use crate::entity::key::{EntityKey, Id, KeyError};
use crate::error::CacheError;
use crate::read::peek::State;

/// Most records that are asked of the buffer in one call, whatever a page's limit.
const MOST: usize = 1_000;

/// A key that is not in the sink yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirtyKey {
    /// The partition that the record was found in.
    pub partition: u16,
    /// The id of the record; not always the text of a key, because other programs write into the buffer, too.
    pub id: Id,
    /// What is to be done.
    pub operation: Operation,
    /// [`State::Dirty`] or [`State::Flushing`].
    pub state: State,
}

impl DirtyKey {
    /// The key of the record.
    ///
    /// # Errors
    /// [`KeyError`] when the id is no text of such a key.
    pub fn key<K: EntityKey>(&self) -> Result<K, KeyError> {
        self.id.parse()
    }
}

/// Some of what is dirty.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DirtyPage {
    /// The keys. Perhaps none although there is a next page. A key is listed twice when it is open and flushing, and
    /// perhaps otherwise.
    pub keys: Vec<DirtyKey>,
    /// Where to go on; `None` at the end.
    pub next: Option<DirtyCursor>,
}

/// Where a scan goes on. Its text can be handed out and read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirtyCursor {
    partition: u16,
    flushing: bool,
    scan: u64,
}

impl fmt::Display for DirtyCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.partition, u8::from(self.flushing), self.scan)
    }
}

impl FromStr for DirtyCursor {
    type Err = NotACursor;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let parse = || {
            let mut parts = text.split('.');
            let partition = parts.next()?.parse().ok()?;
            let flushing = match parts.next()? {
                "0" => false,
                "1" => true,
                _ => return None,
            };
            let scan = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Self { partition, flushing, scan })
        };
        parse().ok_or_else(|| NotACursor { text: text.to_owned() })
    }
}

impl<T: Entity> Cache<T> {
    /// The state of `key` as far as the buffer has it, dirty or clean; `None` when it has none, or when it knows that there is
    /// no row. One round trip, never a question to the sink, and never the near cache.
    ///
    /// # Errors
    /// As [`get`](Self::get), but for the sink.
    pub async fn peek(&self, key: &T::Key) -> Result<Option<T>, CacheError> {
        self.entity.reader.peek(key).await
    }

    /// Where `key` stands. By the time it is told it may be elsewhere.
    ///
    /// # Errors
    /// [`CacheError::Key`]; [`CacheError::Buffer`].
    pub async fn state(&self, key: &T::Key) -> Result<State, CacheError> {
        self.entity.reader.state(key).await
    }

    /// Forgets the clean copy of `key`, in the buffer and in the near caches: the next read asks the sink. For rows that
    /// somebody has changed in the database. What is dirty stays, and so does the state that a dead letter holds. Returns
    /// whether there was a copy.
    ///
    /// # Errors
    /// [`CacheError::Key`]; [`CacheError::Buffer`], after which repeating is safe.
    pub async fn invalidate(&self, key: &T::Key) -> Result<bool, CacheError> {
        self.entity.reader.invalidate(key).await
    }

    /// [`invalidate`](Self::invalidate), then a read: the sink's row as it is after this call began, unless a newer state is
    /// dirty, or a refused one stands, which is returned then.
    ///
    /// ```
    /// # use wb_core::{Cache, CacheError, Entity};
    /// # async fn run<Post: Entity<Key = u64>>(posts: Cache<Post>) -> Result<(), CacheError> {
    /// // Somebody has changed row 7 with an SQL client.
    /// let post = posts.refresh(&7).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn refresh(&self, key: &T::Key) -> Result<Option<T>, CacheError> {
        self.entity.reader.refresh(key.clone()).await
    }

    /// About `limit` (1 to 1000) of the keys that are not in the sink yet, over all processes, from the start (`None`) or where
    /// an earlier page ended. What is dirty all the time is listed, unless the sink refuses it meanwhile and it is tried
    /// again; what comes or goes meanwhile may be. Reads the payloads: for people and tools, not for every request.
    ///
    /// ```
    /// # use wb_core::{Cache, CacheError, Entity};
    /// # async fn run<Post: Entity>(posts: Cache<Post>) -> Result<(), CacheError> {
    /// let mut cursor = None;
    /// loop {
    ///     let page = posts.scan_dirty(cursor, 100).await?;
    ///     for dirty in page.keys {
    ///         println!("{}: {:?}", dirty.id, dirty.operation);
    ///     }
    ///     cursor = page.next;
    ///     if cursor.is_none() {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CacheError::Buffer`].
    pub async fn scan_dirty(&self, cursor: Option<DirtyCursor>, limit: usize) -> Result<DirtyPage, CacheError> {
        let limit = limit.clamp(1, MOST);
        let DirtyCursor { mut partition, mut flushing, mut scan } = cursor.unwrap_or_default();
        let mut keys = Vec::new();
        while partition < self.entity.ctx.scope.partitions && keys.len() < limit {
            // Records move from `open` to `flushing`; so does this.
            let page = self.entity.ctx.space.scan(partition, flushing, scan, limit - keys.len()).await?;
            let state = if flushing { State::Flushing } else { State::Dirty };
            keys.extend(page.records.into_iter().map(|(id, record)| {
                let operation = if record.is_tombstone() { Operation::Delete } else { Operation::Upsert };
                DirtyKey { partition, id, operation, state }
            }));
            scan = page.cursor;
            if scan == 0 {
                partition += u16::from(flushing);
                flushing = !flushing;
            }
        }
        let next = (partition < self.entity.ctx.scope.partitions).then_some(DirtyCursor { partition, flushing, scan });
        Ok(DirtyPage { keys, next })
    }
}

#[cfg(test)]
mod tests {
    use super::DirtyCursor;

    #[test]
    fn cursors_are_read_as_they_are_written() {
        let cursor = DirtyCursor { partition: 7, flushing: true, scan: u64::MAX };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "7", "7.1", "7.2.3", "7.1.3.4", "x.1.3"] {
            assert!(text.parse::<DirtyCursor>().is_err(), "{text}");
        }
    }
}
