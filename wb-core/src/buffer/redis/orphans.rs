//! Looks for what waits in the namespace and nobody flushes: every layout that was ever agreed on is in a list, and so are the
//! workers that are alive.

use std::collections::{BTreeMap, BTreeSet};

use redis::Pipeline;

use super::classify::classify;
use super::connection::Connection;
use super::keys::{self, PartitionKeys};
use super::scripts::Scripts;
use super::topology::known;
use crate::buffer::orphan::Layout;
use crate::buffer::{Orphan, Topology};
use crate::error::buffer::BufferError;
use crate::telemetry::scope::Scope;

/// Partitions that one script call counts: five keys each, some 0.3 µs a key.
const MAX_PARTITIONS: usize = 200;

/// What the namespace knows: topologies by entity, layouts that were ever agreed on, workers with their last heartbeats, the
/// server's time.
type Known = (BTreeMap<String, String>, Vec<String>, Vec<(String, f64)>, (u64, u64));

pub(super) async fn orphans(
    connection: &Connection,
    scripts: &Scripts,
    namespace: &str,
    own: &BTreeMap<&'static str, Topology>,
) -> Result<Vec<Orphan>, BufferError> {
    let doing = "cannot look for records that nobody flushes";
    let mut pipeline = Pipeline::with_capacity(4);
    pipeline.cmd("HGETALL").arg(keys::topology(namespace));
    pipeline.cmd("HKEYS").arg(keys::layouts(namespace));
    pipeline.cmd("ZRANGE").arg(keys::workers(namespace)).arg(0).arg(-1).arg("WITHSCORES");
    pipeline.cmd("TIME");
    let found = pipeline.query_async(&mut connection.clone()).await;
    let (stored, layouts, workers, now): Known = found.map_err(|error| classify(doing, error))?;
    let worked = alive(&workers, now.0 * 1_000 + now.1 / 1_000);
    let agreed = layouts.iter().filter_map(|layout| layout.split_once(' '));
    let all: BTreeSet<(&str, &str)> =
        agreed.chain(stored.iter().map(|(entity, topology)| (entity.as_str(), topology.as_str()))).collect();
    let mut orphans = Vec::new();
    for (entity, text) in all {
        let stored = stored.get(entity).and_then(|stored| known(stored));
        // What this version does not know it cannot look at either.
        let Some(topology) = known(text) else { continue };
        let layout = Layout { own: own.get(entity), stored: stored.as_ref(), worked: worked.contains(entity) };
        if !layout.is_nobodys(&topology) {
            continue;
        }
        let (dirty, letters) = count(connection, scripts, namespace, entity, &topology).await?;
        if dirty + letters > 0 {
            let is_stored = stored.as_ref() == Some(&topology);
            orphans.push(Orphan::new(entity, topology, is_stored, dirty, letters));
        }
    }
    Ok(orphans)
}

/// Entities that have a worker which is alive, as a heartbeat judges it.
fn alive(workers: &[(String, f64)], now_ms: u64) -> BTreeSet<&str> {
    let living = workers.iter().filter_map(|(member, beat_ms)| {
        let (entity, rest) = member.split_once(':')?;
        let lease_ms: u64 = rest.split_once(':')?.0.parse().ok()?;
        // A time of this century is exact as a float; what another program has written saturates.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let beat_ms = *beat_ms as u64;
        (now_ms.abs_diff(beat_ms) < lease_ms).then_some(entity)
    });
    living.collect()
}

/// Records that are not flushed, and dead letters, of a layout.
async fn count(
    connection: &Connection,
    scripts: &Scripts,
    namespace: &str,
    entity: &str,
    topology: &Topology,
) -> Result<(u64, u64), BufferError> {
    let partitions = PartitionKeys::all_of(namespace, entity, topology);
    let (mut dirty, mut letters) = (0, 0);
    // One after the other: whoever has something to do comes in between.
    for partitions in partitions.chunks(MAX_PARTITIONS) {
        let mut call = scripts.leftovers.prepare_invoke();
        for keys in partitions {
            call.key(&keys.open).key(&keys.flushing).key(&keys.log).key(&keys.closed_log).key(&keys.dead);
        }
        let counted = call.invoke_async(&mut connection.clone()).await;
        let (more, more_letters): (u64, u64) =
            counted.map_err(|error| classify("cannot count records that nobody flushes", error))?;
        dirty += more;
        letters += more_letters;
    }
    Ok((dirty, letters))
}

/// Puts a layout on the list, unless it is there: what was written while another one was stored is found by it.
pub(super) async fn list(connection: &Connection, scope: &Scope, topology: &Topology) {
    let mut command = redis::cmd("HSETNX");
    command.arg(keys::layouts(&scope.namespace)).arg(format!("{} {topology}", scope.entity)).arg(1);
    // Where it fails, the next look at the topology tries again.
    let _ = command.exec_async(&mut connection.clone()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_alive_for_its_own_lease() {
        let at = |member: &str, beat_ms: f64| (member.to_owned(), beat_ms);
        let workers = [
            at("post:1000:a@1", 9_500.0),
            at("user:400:b@1", 9_500.0),
            at("note:1000:c@1", 10_700.0),
            at("tag:10000:d:e@1", 500.0),
            at("nonsense", 10_000.0),
            at("wrong:x:y", 10_000.0),
        ];
        assert_eq!(alive(&workers, 10_000), BTreeSet::from(["post", "note", "tag"]));
    }
}
