//! put, delete: one write into the buffer, acknowledged when the buffer has it.

use crate::codec::Format;
use crate::entity::Entity;
use crate::error::CacheError;
use crate::key::{EntityKey, Id};
use crate::lane::Lane;
use crate::partition::partition_of;
use crate::record::{Record, Write};

impl<E: Entity> Lane<E> {
    pub(crate) async fn put(&self, writes: Vec<Write>) -> Result<(), CacheError> {
        let count = writes.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let _place = self.gate.enter()?;
        self.space.put(writes).await?;
        self.counters.puts.add(count);
        Ok(())
    }

    /// The write that makes `value` the state of its key; everything that can be wrong with it is found here.
    pub(crate) fn upsert(&self, value: &E) -> Result<Write, CacheError> {
        let id = Id::of(&value.key())?;
        let payload = value.encode().map_err(|source| codec(&id, source))?;
        if E::FORMAT == Format::Json && holds_null(&payload) {
            // JSON has no NaN or infinity: serde writes them as null, which only an optional field reads back.
            E::decode(&payload).map_err(|source| codec(&id, source))?;
        }
        let size = id.as_bytes().len() + payload.len();
        if size > self.options.max_record_bytes {
            return Err(CacheError::TooLarge { id: id.to_string(), size, limit: self.options.max_record_bytes });
        }
        if payload.is_empty() {
            // The empty payload is the tombstone: storing it would delete the row.
            return Err(CacheError::Empty { id: id.to_string() });
        }
        Ok(self.write(id, Record::from_bytes(payload)))
    }

    pub(crate) fn tombstone<K: EntityKey>(&self, key: &K) -> Result<Write, CacheError> {
        let id = Id::of(key)?;
        let size = id.as_bytes().len();
        if size > self.options.max_record_bytes {
            return Err(CacheError::TooLarge { id: id.to_string(), size, limit: self.options.max_record_bytes });
        }
        Ok(self.write(id, Record::tombstone()))
    }

    fn write(&self, id: Id, record: Record) -> Write {
        Write { partition: partition_of(&id, self.scope.partitions), id, record }
    }
}

fn holds_null(json: &[u8]) -> bool {
    memchr::memmem::find(json, b"null").is_some()
}

/// The error for a record that has no readable form.
pub(super) fn codec(id: &Id, source: crate::codec::CodecError) -> CacheError {
    CacheError::Codec { id: id.to_string(), source: std::sync::Arc::new(source) }
}
