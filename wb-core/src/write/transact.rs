//! transact: several writes into the buffer at one instant, or none of them.

use std::sync::atomic::Ordering;

use futures::future::try_join_all;

use crate::buffer::record::Write;
use crate::buffer::{Guarded, Mark, Transacted};
use crate::entity::Entity;
use crate::entity::decode::decode_payload;
use crate::error::buffer::BufferErrorKind;
use crate::error::{CacheError, codec};
use crate::fault::failpoint;
use crate::write::Writer;
use crate::write::change_queue::Target;
use crate::write::compare_and_set::{TRIES, Waiting};

/// A write of a transaction that is not stored yet.
pub(crate) struct Draft<K> {
    pub(crate) write: Write,
    pub(crate) key: K,
    /// Its version, where versions count; a delete has none.
    pub(crate) version: Option<i64>,
}

impl<E: Entity> Writer<E> {
    /// Stores all of these, or none.
    pub(crate) async fn transact(&self, drafts: &[Draft<E::Key>]) -> Result<(), CacheError> {
        if drafts.is_empty() {
            return Ok(());
        }
        let _place = self.ctx.intake.enter()?;
        self.ctx.readiness.takes_writes()?;
        let _near = self.ctx.near.writing(drafts.iter().map(|draft| &draft.write.id));
        let mark = Mark::fresh();
        let losses = self.ctx.losses.load(Ordering::Acquire);
        let mut wait = Waiting::new(self);
        loop {
            let writes = try_join_all(drafts.iter().map(|draft| self.guarded(draft))).await?;
            let transacted = self.ctx.space.transact(mark, &writes).await;
            failpoint::pass("after_transact");
            match transacted {
                Ok(Transacted::Stored) => break,
                Ok(Transacted::Changed(place)) => {
                    if !wait.conflict().await {
                        let id = drafts.get(place).map_or_else(String::new, |draft| draft.write.id.to_string());
                        return Err(CacheError::Contended { id, tries: TRIES });
                    }
                }
                Err(error) if error.kind() == BufferErrorKind::Full => wait.room(error).await?,
                Err(error) => return Err(error.into()),
            }
        }
        self.ctx.wrote(losses, drafts.iter().map(|draft| &draft.write.id));
        self.ctx.counters.puts.add(drafts.len() as u64);
        Ok(())
    }

    /// A write, and the state that it replaces where it has a version: that state's must be lower.
    async fn guarded(&self, draft: &Draft<E::Key>) -> Result<Guarded, CacheError> {
        let Draft { write, key, version } = draft;
        let Some(offered) = *version else { return Ok(Guarded { write: write.clone(), expected: None }) };
        let target = Target { partition: write.partition, id: write.id.clone(), key: key.clone() };
        let standing = self.standing(&target).await?;
        let stored = match standing.stored.record.payload() {
            None => None,
            Some(payload) => decode_payload::<E>(payload).map_err(|source| codec(&write.id, source))?.version(),
        };
        // As for a put: not even the very same state may be put again.
        if let Some(stored) = stored.max(standing.floor)
            && offered <= stored
        {
            return Err(CacheError::Conflict { id: write.id.to_string(), stored, offered });
        }
        Ok(Guarded { write: write.clone(), expected: Some(standing.stored) })
    }
}
