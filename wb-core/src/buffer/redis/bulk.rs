//! The connection of what is read in bulk. It leads where the connection of the requests leads.

use std::sync::atomic::{AtomicU64, Ordering};

use redis::RedisResult;

use super::connection::{Connection, Pinned};

/// A connection that nothing is written by never hears that its server has become a replica. So it is replaced whenever that of
/// the requests was, before anything more is read by it: an epoch must not be read from a server that has an older one.
#[derive(Debug)]
pub(super) struct Bulk {
    connection: Connection,
    requests: Connection,
    /// The generation of the requests' connection that this one was made under, or was compared with last.
    under: AtomicU64,
}

impl Bulk {
    pub(super) async fn new(connection: Connection, requests: Connection) -> RedisResult<Self> {
        let under = AtomicU64::new(requests.current().await?.generation());
        Ok(Self { connection, requests, under })
    }

    pub(super) async fn current(&self) -> RedisResult<Pinned> {
        let generation = self.requests.current().await?.generation();
        if self.under.swap(generation, Ordering::AcqRel) < generation {
            self.connection.replace();
        }
        self.connection.current().await
    }

    pub(super) async fn close(&self) {
        self.connection.close().await;
    }
}
