//! What readers ask, and leave behind. None of it takes a record out of an epoch.

use std::time::Duration;

use async_trait::async_trait;

use crate::buffer::{Look, Lookup, Page, Stored, Token};
use crate::entity::key::Id;
use crate::error::buffer::BufferError;

/// What readers ask, and leave behind. None of it takes a record out of an epoch. A part of [`Space`](super::Space).
#[async_trait]
pub trait Reads: Send + Sync + 'static {
    /// Looks ids of one partition up, in the order `open`, `flushing`, clean copy. One answer per id.
    async fn get(&self, partition: u16, ids: &[Id]) -> Result<Vec<Lookup>, BufferError>;

    /// Leaves a load token where the clean copy would be, for `ttl`: where nothing is there, or this very copy, which
    /// somebody has loaded and is not good enough for the caller. `false` when something else is.
    async fn token(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        over: Option<&Stored>,
        ttl: Duration,
    ) -> Result<bool, BufferError>;

    /// Puts a loaded state (a tombstone: "no such row"), and who loaded it, as the clean copy if `token` still stands there; otherwise, an
    /// ack came in between and the state may be old. With a zero `ttl` the token is only removed. Returns whether it stood there.
    async fn fill(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        loaded: &Stored,
        ttl: Duration,
    ) -> Result<bool, BufferError>;

    /// The version of the record of this id that was left out last; `None` when none was, or a later state of its key was
    /// acknowledged since.
    async fn stale(&self, partition: u16, id: &Id) -> Result<Option<i64>, BufferError>;

    /// [`get`](Reads::get) over partitions, at one instant: what one transaction wrote is seen whole or not at all.
    async fn get_together(&self, places: &[(u16, Vec<Id>)]) -> Result<Vec<Vec<Lookup>>, BufferError>;

    /// Where ids of a partition stand, and its epochs: a [`Look`] is of one instant. Many ids are looked at in several steps,
    /// 200 at a time; each step has epochs of its own, and only by these its ids can be judged. At least one, also for no ids.
    async fn look(&self, partition: u16, ids: &[Id]) -> Result<Vec<Look>, BufferError>;

    /// Drops the clean copies of these ids, "no such row" included, and the marks of loads under way; returns how many. A copy
    /// without TTL stays: it is the readable state of a record that the sink has refused. What is dirty stays.
    async fn invalidate(&self, partition: u16, ids: &[Id]) -> Result<u64, BufferError>;

    /// A page of what is open, or of what is `flushing`; about `limit` records, some perhaps twice. Cursor 0 starts and ends.
    /// What is there from the start to the end of the scan is in one of the pages.
    async fn scan(&self, partition: u16, flushing: bool, cursor: u64, limit: usize) -> Result<Page, BufferError>;
}
