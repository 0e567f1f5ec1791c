//! What was made here and is not in the database yet. Lists come from there, and would be without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// Keys that are remembered at most, of each kind; the oldest are forgotten first.
const KEPT: usize = 1_000;

/// Keys of what was made in this process and no list has shown yet. They are of version 7: the first is the oldest.
#[derive(Default)]
pub(crate) struct Fresh {
    posts: Mutex<BTreeSet<Uuid>>,
    /// Comments, with their posts.
    comments: Mutex<BTreeMap<Uuid, Uuid>>,
}

impl Fresh {
    pub(crate) fn post(&self, id: Uuid) {
        let mut posts = locked(&self.posts);
        posts.insert(id);
        if posts.len() > KEPT {
            posts.pop_first();
        }
    }

    pub(crate) fn posts(&self) -> Vec<Uuid> {
        locked(&self.posts).iter().copied().collect()
    }

    /// These posts are in the database, or deleted.
    pub(crate) fn forget_posts(&self, ids: impl Iterator<Item = Uuid>) {
        let mut posts = locked(&self.posts);
        for id in ids {
            posts.remove(&id);
        }
    }

    pub(crate) fn comment(&self, id: Uuid, post: Uuid) {
        let mut comments = locked(&self.comments);
        comments.insert(id, post);
        if comments.len() > KEPT {
            comments.pop_first();
        }
    }

    /// These comments are in the database; says how many of that post are not.
    pub(crate) fn still_waiting(&self, post: Uuid, stored: impl Iterator<Item = Uuid>) -> usize {
        let mut comments = locked(&self.comments);
        for id in stored {
            comments.remove(&id);
        }
        comments.values().filter(|of| **of == post).count()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
