//! One load of a key at a time in a process.
//!
//! A reader may join a load only if the load token that it found is the one the load was started under: tokens are
//! used once and an ack removes them, so an unchanged token proves that no state went to the sink in between, and the
//! load is not older than the reader's own look into the buffer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, WeakShared};

use crate::buffer::Token;
use crate::buffer::record::Record;
use crate::entity::key::Id;
use crate::error::CacheError;

/// What a load found: the state as a payload, or the tombstone for "no such row".
pub(crate) type Loaded = Result<Record, CacheError>;

// Weak: only readers keep a load alive; when the last one gives up, so does the load.
type Running = HashMap<(Id, Token), WeakShared<BoxFuture<'static, Loaded>>>;

#[derive(Default)]
pub(crate) struct SingleFlight {
    running: Arc<Mutex<Running>>,
}

impl SingleFlight {
    /// Joins the load of `id` under `token`, or starts it with `load`.
    pub(crate) async fn join<F>(&self, id: &Id, token: &Token, load: impl FnOnce() -> F) -> Loaded
    where
        F: Future<Output = Loaded> + Send + 'static,
    {
        let key = (id.clone(), token.clone());
        let shared = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(shared) = running.get(&key).and_then(WeakShared::upgrade) {
                shared
            } else {
                let entry = Entry { running: self.running.clone(), key: key.clone() };
                let load = load();
                let load = async move {
                    let _entry = entry;
                    load.await
                };
                let shared = load.boxed().shared();
                if let Some(weak) = shared.downgrade() {
                    running.insert(key, weak);
                }
                shared
            }
        };
        shared.await
    }
}

/// Takes a load out of the list when it ends or is dropped.
struct Entry {
    running: Arc<Mutex<Running>>,
    key: (Id, Token),
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
