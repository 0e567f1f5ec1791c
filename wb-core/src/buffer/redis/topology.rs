//! The topology of an entity is fixed while anything of it is dirty.

use redis::RedisResult;

use super::classify::classify;
use super::connect::Connection;
use super::forget::{Copies, forget};
use super::keys::{self, PartitionKeys};
use super::scripts::Scripts;
use crate::buffer::{self, BufferError, BufferErrorKind, LAYOUT, Registration, Topology};
use crate::sink::Scope;

/// Partitions an entity can have; keeps a forged or foreign topology record from asking for a billion keys.
const MAX_PARTITIONS: u16 = 4096;

/// Agrees with Redis on the topology, or says who asks for what.
pub(super) async fn register(
    connection: &Connection,
    scripts: &Scripts,
    registration: &Registration,
) -> Result<(), BufferError> {
    let scope = &registration.scope;
    let asked = registration.topology();
    let key = keys::topology(&scope.namespace);
    let failed = |error| classify(&format!("cannot agree on the topology in `{key}`"), error);
    let mut replaces = String::new();
    // Each round has seen what is stored; somebody else may change it between two of them.
    for _ in 0..3 {
        let stored: String = scripts
            .topology
            .key(&key)
            .arg(scope.entity)
            .arg(asked.to_string())
            .arg(&replaces)
            .invoke_async(&mut connection.clone())
            .await
            .map_err(failed)?;
        if stored == asked.to_string() {
            return Ok(());
        }
        let known = Topology::parse(&stored).filter(|t| t.layout == LAYOUT && t.partitions <= MAX_PARTITIONS);
        let Some(known) = known else {
            return Err(BufferError::new(
                BufferErrorKind::Topology,
                format!(
                    "`{key}` says `{stored}` for entity `{}`, which this version does not know; it asks for `{asked}`",
                    scope.entity
                ),
            ));
        };
        let partitions = PartitionKeys::all(scope, known.partitions);
        let dirty = dirty(connection, &partitions).await.map_err(failed)?;
        if dirty > 0 {
            return Err(buffer::topology_mismatch(scope, &stored, &asked, dirty));
        }
        // Clean copies of a layout that ends would be old if it came back later.
        forget(connection, scope, Copies::All).await.map_err(failed)?;
        replaces = stored;
    }
    Err(BufferError::new(BufferErrorKind::Topology, format!("`{key}` changes while this program starts")))
}

/// Whether the topology is still the one that a space was opened with. Where none is stored Redis has lost its data, and
/// with them all reason to refuse this one: it is fixed anew, by whoever comes first.
pub(super) async fn confirm(
    connection: &Connection,
    scripts: &Scripts,
    scope: &Scope,
    own: &Topology,
) -> Result<(), BufferError> {
    let key = keys::topology(&scope.namespace);
    let mut command = redis::cmd("HGET");
    command.arg(&key).arg(scope.entity);
    let failed = |error| classify(&format!("cannot read the topology in `{key}`"), error);
    let stored: Option<String> = command.query_async(&mut connection.clone()).await.map_err(failed)?;
    let own_text = own.to_string();
    let stored = match stored {
        Some(stored) => stored,
        None => {
            let mut call = scripts.topology.key(&key);
            call.arg(scope.entity).arg(&own_text).arg("");
            call.invoke_async::<String>(&mut connection.clone()).await.map_err(failed)?
        }
    };
    if stored == own_text { Ok(()) } else { Err(buffer::topology_changed(scope, &stored, own)) }
}

async fn dirty(connection: &Connection, partitions: &[PartitionKeys]) -> RedisResult<u64> {
    let mut dirty = 0;
    for keys in partitions {
        for hash in [&keys.open, &keys.flushing] {
            dirty += redis::cmd("HLEN").arg(hash).query_async::<u64>(&mut connection.clone()).await?;
        }
        for log in [&keys.log, &keys.closed_log] {
            dirty += redis::cmd("LLEN").arg(log).query_async::<u64>(&mut connection.clone()).await?;
        }
    }
    Ok(dirty)
}
