//! What a change makes of the record that it meets: versions go up, fields of newer programs stay.

use std::sync::Arc;

use crate::buffer::record::Record;
use crate::entity::Entity;
use crate::entity::codec::merge_unknown;
use crate::entity::key::Id;
use crate::error::CacheError;
use crate::write::Writer;
use crate::write::change_queue::{State, Target};

impl<E: Entity> Writer<E> {
    /// Where the record of a key is.
    pub(crate) fn target(&self, key: &E::Key) -> Result<Target<E::Key>, CacheError> {
        let id = Id::of(key)?;
        let partition = self.ctx.partition_of(&id, key)?;
        Ok(Target { partition, id, key: key.clone() })
    }

    pub(crate) fn value_of(&self, target: &Target<E::Key>, record: &Record) -> Result<Option<E>, CacheError> {
        let failed = |source| CacheError::Codec { id: target.id.to_string(), source: Arc::new(source) };
        record.payload().map(|payload| E::decode(payload).map_err(failed)).transpose()
    }

    /// The record of a changed value. Fields of the state before it that this struct does not know stay: a newer program
    /// has put them there.
    pub(crate) fn changed(&self, target: &Target<E::Key>, state: &State<'_>, value: &E) -> Result<Record, CacheError> {
        let before = state.record;
        if state.outdated && !before.is_tombstone() && !self.ctx.options.accept_unknown_fields {
            return Err(CacheError::Outdated { id: target.id.to_string() });
        }
        let write = self.upsert(value)?;
        if write.id != target.id {
            return Err(CacheError::KeyChanged { id: target.id.to_string() });
        }
        let (Some(known), Some(before)) = (E::fields(), before.payload()) else { return Ok(write.record) };
        let merged = merge_unknown(E::FORMAT, before, write.record.as_bytes().to_vec(), known);
        let (size, limit) = (target.id.as_bytes().len() + merged.len(), self.ctx.options.max_record_bytes);
        if size > limit {
            return Err(CacheError::TooLarge { id: target.id.to_string(), size, limit });
        }
        Ok(Record::from_bytes(merged))
    }

    /// Gives a changed value a higher version than it had, unless the change did.
    pub(crate) fn raise(&self, target: &Target<E::Key>, before: Option<i64>, value: &mut E) -> Result<(), CacheError> {
        let (Some(before), Some(now)) = (before, value.version()) else { return Ok(()) };
        if now > before || before.checked_add(1).is_some_and(|next| value.set_version(next)) {
            return Ok(());
        }
        Err(CacheError::Overflow { id: target.id.to_string(), field: "version" })
    }

    /// Whether a state of `version` may replace what stands. Not even the very same state may: two that have counted to
    /// the same number from the same state would both believe that they were counted.
    pub(crate) fn newer(
        &self,
        target: &Target<E::Key>,
        state: &State<'_>,
        version: Option<i64>,
    ) -> Result<(), CacheError> {
        let stored = self.value_of(target, state.record)?.as_ref().and_then(Entity::version);
        self.not_below(target, stored.max(state.floor), version)
    }

    pub(crate) fn not_below(
        &self,
        target: &Target<E::Key>,
        stored: Option<i64>,
        offered: Option<i64>,
    ) -> Result<(), CacheError> {
        match (stored, offered) {
            (Some(stored), Some(offered)) if offered <= stored => {
                Err(CacheError::Conflict { id: target.id.to_string(), stored, offered })
            }
            _ => Ok(()),
        }
    }
}
