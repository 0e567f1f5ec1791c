//! Copies are read only through a connection whose server's data were looked at.
//!
//! A server that was restarted comes back with older data, and clean copies in them are older than the sink. A connection lives no
//! longer than its server, so one look at the lineage, after the connection was made and before the first request of a reader
//! or an updater goes out on it, is enough: what is stale is dropped by then, and the request is pinned to that
//! connection. Plain writes need no look: they build on nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::classify::classify;
use super::connection::{Connection, Pinned};
use super::space::RedisSpace;
use crate::error::buffer::BufferError;
use crate::fault::mechanism::Mechanism;

/// What is known of one connection for one entity.
#[derive(Debug, Default)]
pub(super) struct Verified {
    /// The generation that was looked at last; generations begin with 1.
    generation: AtomicU64,
    /// One look at a time; who waits for it finds it done.
    looking: Mutex<()>,
}

impl RedisSpace {
    /// The connection of readers.
    pub(super) async fn reader(&self) -> Result<Pinned, BufferError> {
        self.verified_connection(&self.connection, &self.verified.0).await
    }

    /// The connection of writes, for those that compare before they set.
    pub(super) async fn updater(&self) -> Result<Pinned, BufferError> {
        self.verified_connection(self.committer.connection(), &self.verified.1).await
    }

    async fn verified_connection(&self, connection: &Connection, verified: &Verified) -> Result<Pinned, BufferError> {
        let current = async || connection.current().await.map_err(|error| classify("cannot read copies", error));
        let pinned = current().await?;
        if verified.generation.load(Ordering::Acquire) == pinned.generation()
            || self.sabotage.lacks(Mechanism::VerifiedConnection)
        {
            return Ok(pinned);
        }
        let _one = verified.looking.lock().await;
        // The one that was waited for may have looked at it, or at another one that is gone by now.
        let pinned = current().await?;
        if verified.generation.load(Ordering::Acquire) != pinned.generation() {
            self.watch.check(&pinned, &self.scripts, &self.scope).await?;
            verified.generation.store(pinned.generation(), Ordering::Release);
        }
        Ok(pinned)
    }
}
