//! Redis as the buffer: records survive the processes that write and flush them.

mod bulk;
mod classify;
mod clean_copies;
mod code;
mod connect;
mod connection;
mod examine;
mod held;
mod keys;
mod leases;
mod leave;
mod letters;
mod lineage;
mod log;
mod marker;
mod orphans;
mod pending;
mod reads;
mod replay;
mod sabotaged;
mod scripts;
mod server_info;
mod signals;
mod space;
mod steps;
mod topology;
mod transaction;
mod verified;
mod weighed;
pub(crate) mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;

pub use self::connect::RedisOptions;
pub use self::write::durability::Durability;

use self::bulk::Bulk;
use self::classify::at_start;
use self::connection::Connection;
use self::keys::PartitionKeys;
use self::lineage::Watch;
use self::scripts::Scripts;
use self::signals::{Listener, Signals};
use self::space::RedisSpace;
use self::verified::Verified;
use self::write::durability::Wait;
use self::write::group_commit::{Committer, Shelf};
use super::{Buffer, Orphan, Registration, Space, Topology, TopologyChange};
use crate::error::buffer::BufferError;
use crate::error::finding::Finding;

/// A buffer in Redis 6.2 or newer (or a server that speaks like one).
///
/// All writes of a buffer share one connection and leave in groups; the verbs of workers share it too, unless writes
/// wait for their [`Durability`]. What workers read in bulk comes by a connection of its own, and what other processes signal
/// by one more, for all entities. One buffer belongs to one engine.
pub struct RedisBuffer {
    connection: Connection,
    /// The one that writes leave by; the same where they are not waited for.
    writes: Connection,
    /// The one for what is read in bulk.
    bulk: Arc<Bulk>,
    committer: Arc<Committer>,
    task: Mutex<Option<JoinHandle<()>>>,
    scripts: Arc<Scripts>,
    shelves: AtomicU32,
    signals: Arc<Signals>,
}

impl fmt::Debug for RedisBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBuffer").finish_non_exhaustive()
    }
}

impl RedisBuffer {
    /// Connects to `redis://[user[:password]@]host[:port][/database]` with the default [`RedisOptions`].
    ///
    /// # Errors
    /// [`BufferErrorKind::Misconfigured`](crate::error::buffer::BufferErrorKind::Misconfigured) when `url` is no Redis URL, or an
    /// [ambiguous](crate::Address::ambiguity) one, and when the server refuses the user or the password;
    /// [`BufferErrorKind::Unavailable`](crate::error::buffer::BufferErrorKind::Unavailable) when the server does not answer within
    /// the connect timeout. Of the URL only what [`Address`](crate::Address) shows is named.
    pub async fn connect(url: &str) -> Result<Self, BufferError> {
        Self::connect_with(url, RedisOptions::default()).await
    }

    /// Connects with these options.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); and [`BufferErrorKind::Misconfigured`](crate::error::buffer::BufferErrorKind::Misconfigured) when
    /// the server cannot do the [`Durability`] asked for: [`Durability::Fsync`] needs Redis 7.2 with `appendonly yes`.
    pub async fn connect_with(url: &str, options: RedisOptions) -> Result<Self, BufferError> {
        let wait = Wait::new(options.durability, options.durability_timeout)?;
        let connection = connect::connect(url, &options).await?;
        let writes = match &wait {
            None => connection.clone(),
            Some(wait) => {
                wait.check(&connection).await?;
                connect::connect_for_waits(url, &options).await?
            }
        };
        let bulk = connect::connect_for_bulk(url, &options).await?;
        let bulk = Bulk::new(bulk, connection.clone())
            .await
            .map_err(|error| at_start(classify::classify("cannot connect for bulk reads", error)))?;
        let committer = Arc::new(Committer::new(writes.clone(), wait));
        let task = tokio::spawn(committer.clone().run());
        Ok(Self {
            committer,
            task: Mutex::new(Some(task)),
            scripts: Arc::new(Scripts::new()),
            shelves: AtomicU32::new(0),
            signals: Arc::new(Signals::new(
                connect::server(url, &options)?,
                options.connect_timeout,
                connection.clone(),
            )),
            connection,
            writes,
            bulk: Arc::new(bulk),
        })
    }
}

impl RedisBuffer {
    /// What an entity knows of the connection of readers and of that of writes, which may be the same.
    fn verified(&self) -> (Arc<Verified>, Arc<Verified>) {
        let reads = Arc::new(Verified::default());
        let writes = if self.connection.is(&self.writes) { reads.clone() } else { Arc::default() };
        (reads, writes)
    }
}

#[async_trait]
impl Buffer for RedisBuffer {
    async fn space(&self, registration: Registration) -> Result<Arc<dyn Space>, BufferError> {
        topology::look(&self.connection, &self.scripts, &registration).await.map_err(at_start)?;
        let topology = registration.topology();
        let scope = registration.scope.clone();
        let shelf = Shelf {
            number: self.shelves.fetch_add(1, Ordering::Relaxed),
            partitions: PartitionKeys::all(&scope, &topology),
            written: registration.ear.near.is_some().then(|| keys::written(&scope)),
            pressure: registration.pressure.clone(),
            limit: registration.max_dirty,
            append: registration.append,
        };
        let partitions = scope.partitions;
        let ear = registration.ear.listens().then(|| Listener::new(&scope, &registration));
        Ok(Arc::new(RedisSpace {
            shelf: Arc::new(shelf),
            committer: self.committer.clone(),
            connection: self.connection.clone(),
            bulk: self.bulk.clone(),
            weights: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
            scripts: self.scripts.clone().without(registration.sabotage),
            sabotage: registration.sabotage,
            topology,
            scope,
            watch: Watch::default(),
            signals: self.signals.clone(),
            ear: Mutex::new(ear),
            verified: self.verified(),
        }))
    }

    async fn change(&self, registration: &Registration) -> Result<Option<TopologyChange>, BufferError> {
        topology::change(&self.connection, &self.scripts, registration).await.map_err(at_start)
    }

    async fn announce(
        &self,
        registration: &Registration,
        stored: &Topology,
        lasts: Duration,
    ) -> Result<(), BufferError> {
        let scripts = self.scripts.clone().without(registration.sabotage);
        topology::leave(&self.connection, &scripts, registration, stored, Some(lasts)).await.map_err(at_start)
    }

    async fn cancel(&self, registration: &Registration, stored: &Topology) -> Result<(), BufferError> {
        topology::leave(&self.connection, &self.scripts, registration, stored, None).await
    }

    async fn agree(&self, registrations: &[Registration]) -> Result<(), BufferError> {
        let sabotage = registrations.first().map(|registration| registration.sabotage).unwrap_or_default();
        let scripts = self.scripts.clone().without(sabotage);
        topology::agree(&self.connection, &scripts, registrations).await.map_err(at_start)
    }

    async fn examine(&self) -> Result<Vec<Finding>, BufferError> {
        examine::examine(&self.connection).await.map_err(at_start)
    }

    async fn orphans(
        &self,
        namespace: &str,
        own: &BTreeMap<&'static str, Topology>,
    ) -> Result<Vec<Orphan>, BufferError> {
        orphans::orphans(&self.connection, &self.scripts, namespace, own).await
    }

    async fn close(&self) {
        self.committer.close();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A panic of the task has failed the writes that waited for it; there is nothing left to report.
            let _ = task.await;
        }
        self.signals.close().await;
        self.connection.close().await;
        self.writes.close().await;
        self.bulk.close().await;
    }
}

impl Drop for RedisBuffer {
    fn drop(&mut self) {
        // Without `close`, writes on their way are still finished: the task ends by itself when the queue is empty.
        self.committer.close();
    }
}
