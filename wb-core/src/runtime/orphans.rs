//! Tells of records that wait in the buffer and that nobody flushes: an entity that a deploy has renamed or dropped leaves its
//! queue behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::buffer::{Buffer, Orphan, Topology};
use crate::error::buffer::BufferError;
use crate::error::finding::Finding;
use crate::runtime::lifecycle::{Phase, stopped};
use crate::telemetry::event::Listeners;
use crate::telemetry::{log, metrics};

/// Time between two looks. Each process looks, and nothing becomes worse meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A namespace of a buffer, as an engine sees it.
pub(crate) struct Namespace {
    pub(crate) buffer: Arc<dyn Buffer>,
    pub(crate) name: String,
    /// The entities of this engine, and the topologies that it asks for.
    pub(crate) own: BTreeMap<&'static str, Topology>,
}

impl Namespace {
    pub(crate) async fn look(&self) -> Result<Vec<Orphan>, BufferError> {
        self.buffer.orphans(&self.name, &self.own).await
    }
}

/// What a look at start has found. A look that failed is worth knowing: somebody may not read what others have written.
pub(crate) fn findings(namespace: &str, looked: &Result<Vec<Orphan>, BufferError>) -> Vec<Finding> {
    match looked {
        Ok(orphans) => orphans.iter().map(|orphan| finding(namespace, orphan)).collect(),
        Err(error) => {
            let text = format!("records of dropped entities were not looked for: {}", crate::error::chain(error));
            vec![Finding::note("orphans-unknown", "buffer", text)]
        }
    }
}

fn finding(namespace: &str, orphan: &Orphan) -> Finding {
    let Orphan { entity, topology, stored, dirty, letters } = orphan;
    let why = if *stored {
        "no worker of the entity is alive; was it renamed or dropped?"
    } else {
        "another topology is stored for the entity."
    };
    Finding::warning(
        "orphaned-records",
        format!("entity `{entity}`"),
        format!(
            "{dirty} records that are not flushed, and {letters} dead letters, wait in namespace `{namespace}` under \
             `{topology}`, and nobody flushes them; {why} Run a worker that has the entity with this topology until nothing is \
             left; or delete the keys `{namespace}:{{{entity}:*/{}}}:*`, if they may be lost",
            topology.layout_name(),
        ),
    )
}

/// What was told already, by entity and topology.
type Told = BTreeMap<(String, String), Orphan>;

/// Looks until the phase ends, after `first`, which a start has told; tells what is new, and what is no more.
pub(crate) async fn watch(
    space: Namespace,
    first: Vec<Orphan>,
    listeners: Listeners,
    mut phase: watch::Receiver<Phase>,
) {
    let mut told = by_layout(first);
    publish(&space.name, &Told::new(), &told);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and start has just looked.
    ticks.tick().await;
    loop {
        let looked = async {
            ticks.tick().await;
            space.look().await
        };
        let found = tokio::select! {
            found = looked => found,
            () = stopped(&mut phase) => return,
        };
        // Whoever needs the buffer reports an outage, and it says nothing of what waits there.
        let Ok(found) = found else { continue };
        let found = by_layout(found);
        publish(&space.name, &told, &found);
        for orphan in found.iter().filter(|(layout, _)| !told.contains_key(*layout)).map(|(_, orphan)| orphan) {
            log::orphaned(&listeners, &space.name, (&orphan.entity, &orphan.topology), (orphan.dirty, orphan.letters));
        }
        for orphan in told.iter().filter(|(layout, _)| !found.contains_key(*layout)).map(|(_, orphan)| orphan) {
            log::orphaned_no_more(&listeners, &space.name, (&orphan.entity, &orphan.topology));
        }
        told = found;
    }
}

fn by_layout(orphans: Vec<Orphan>) -> Told {
    orphans.into_iter().map(|orphan| ((orphan.entity.clone(), orphan.topology.to_string()), orphan)).collect()
}

/// Publishes the sums of each entity; zero for those that have nothing any more.
fn publish(namespace: &str, before: &Told, now: &Told) {
    let mut sums: BTreeMap<&str, (u64, u64)> = before.values().map(|orphan| (orphan.entity.as_str(), (0, 0))).collect();
    for Orphan { entity, dirty, letters, .. } in now.values() {
        let (all, all_letters) = sums.entry(entity).or_default();
        *all += dirty;
        *all_letters += letters;
    }
    for (entity, (dirty, letters)) in sums {
        metrics::orphaned(namespace, entity, dirty, letters);
    }
}
