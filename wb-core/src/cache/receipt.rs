//! Receipts: what a write returns.

use std::fmt;
use std::sync::Arc;

use crate::entity::Entity;
use crate::key::Id;
use crate::lane::Lane;

/// Says that a write is in the buffer; from [`Cache::put`](crate::Cache::put) and its siblings. Costs nothing unless it is
/// asked.
pub struct Receipt<T: Entity> {
    lane: Arc<Lane<T>>,
    places: Places,
}

/// Partitions and ids that were written.
enum Places {
    One((u16, Id)),
    Many(Vec<(u16, Id)>),
}

impl<T: Entity> fmt::Debug for Receipt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&Id> = self.places().iter().map(|(_, id)| id).collect();
        f.debug_struct("Receipt").field("entity", &T::NAME).field("ids", &ids).finish_non_exhaustive()
    }
}

impl<T: Entity> Receipt<T> {
    pub(super) const fn of(lane: Arc<Lane<T>>, place: (u16, Id)) -> Self {
        Self { lane, places: Places::One(place) }
    }

    pub(super) const fn of_many(lane: Arc<Lane<T>>, places: Vec<(u16, Id)>) -> Self {
        Self { lane, places: Places::Many(places) }
    }

    fn places(&self) -> &[(u16, Id)] {
        match &self.places {
            Places::One(place) => std::slice::from_ref(place),
            Places::Many(places) => places,
        }
    }
}
