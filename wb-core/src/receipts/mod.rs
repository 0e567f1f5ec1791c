//! Receipts: what has become of a write.

pub(crate) mod barrier;
pub(crate) mod tracker;

use std::sync::Arc;
use std::time::Duration;

use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::CacheError;
use crate::ownership::leases::Leases;
use crate::receipts::tracker::Tracker;
use crate::relations::Relations;
use crate::runtime::context::{Begun, EntityContext, Place};

/// How long the end of an engine may take to tell what is settled.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Waits for what is on its way to the sink.
pub(crate) struct Receipts<E: Entity> {
    pub(crate) ctx: Arc<EntityContext<E>>,
    pub(crate) leases: Arc<Leases>,
    /// Entities that this one belongs to, and that belong to it.
    pub(crate) relations: Arc<Relations>,
    /// Who waits until a write is in the sink.
    pub(crate) tracker: Tracker,
}

impl<E: Entity> Receipts<E> {
    /// Waits until a write is in the sink; of an entry of a log `unreadable` is the id that it has if it is no row.
    pub(crate) async fn persisted(
        &self,
        partition: u16,
        id: &Id,
        unreadable: Option<Id>,
        begun: Begun,
    ) -> Result<(), CacheError> {
        let answer = self.tracker.wait_for(partition, id.clone(), unreadable, begun);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer.unwrap_or(Err(CacheError::Closed)),
            reason = self.ctx.intake.over() => {
                // The last look of the engine's end may have settled it.
                match tokio::time::timeout(LAST_LOOK, answer).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) | Err(_) => Err(reason),
                }
            }
        }
    }

    /// Asks for the flush of what was written there.
    pub(crate) async fn hurry(&self, places: &[Place]) {
        self.ctx.trigger.nudge();
        let owned = self.leases.owned();
        if !places.iter().all(|(partition, _)| owned.contains(partition)) {
            // Another process has the partition. When nobody hears it, the interval comes all the same.
            let _ = self.ctx.space.nudge().await;
        }
    }
}
