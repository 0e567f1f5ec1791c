//! Looks for what waits and nobody flushes, as in Redis: clones of a buffer are programs that share it.

use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;

use tokio::time::Instant;

use super::{Partitions, Shelf, partition};
use crate::buffer::orphan::Layout;
use crate::buffer::{Orphan, Topology};

pub(super) fn orphans(
    shelves: &HashMap<(String, &'static str), Shelf>,
    namespace: &str,
    own: &BTreeMap<&'static str, Topology>,
) -> Vec<Orphan> {
    let mut orphans = Vec::new();
    for ((_, entity), shelf) in shelves.iter().filter(|((other, _), _)| other == namespace) {
        let layout = Layout { own: own.get(entity), stored: shelf.topology.as_ref(), worked: shelf.is_worked() };
        for (topology, partitions) in shelf.layouts.iter().filter(|(topology, _)| layout.is_nobodys(topology)) {
            let (dirty, letters) = count(partitions);
            if dirty + letters > 0 {
                orphans.push(Orphan::new(*entity, topology.clone(), layout.stored == Some(topology), dirty, letters));
            }
        }
    }
    orphans.sort_by(|a, b| (&a.entity, a.topology.layout_name()).cmp(&(&b.entity, b.topology.layout_name())));
    orphans
}

fn count(partitions: &Partitions) -> (u64, u64) {
    let statuses = partitions.iter().map(|cell| partition::lock(cell).status());
    statuses.fold((0, 0), |(dirty, letters), status| (dirty + status.dirty(), letters + status.dead))
}

impl Shelf {
    /// Whether a worker of the entity is alive.
    fn is_worked(&self) -> bool {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.values().any(|until| until.is_none_or(|until| until > Instant::now()))
    }
}
