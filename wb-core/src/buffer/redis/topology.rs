//! The topology of an entity is fixed while anything of it is dirty.

use redis::RedisResult;

use super::classify::classify;
use super::connection::Connection;
use super::forget::{Copies, forget};
use super::keys::{self, PartitionKeys};
use super::scripts::Scripts;
use crate::buffer::{self, BufferError, BufferErrorKind, LAYOUT, Registration, Topology};
use crate::sink::Scope;

/// Partitions an entity can have; keeps a forged or foreign topology record from asking for a billion keys.
const MAX_PARTITIONS: u16 = 4096;

/// Looks whether an agreement would be refused now; returns what is stored (`None`: nothing).
pub(super) async fn look(connection: &Connection, registration: &Registration) -> Result<Option<String>, BufferError> {
    let (scope, asked) = (&registration.scope, registration.topology());
    let key = keys::topology(&scope.namespace);
    let failed = |error| classify(&format!("cannot read the topology in `{key}`"), error);
    let Some(stored) = stored(connection, scope).await.map_err(failed)? else { return Ok(None) };
    if stored == asked.to_string() {
        return Ok(Some(stored));
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
    let dirty = dirty(connection, &PartitionKeys::all(scope, known.partitions)).await.map_err(failed)?;
    if dirty > 0 {
        return Err(buffer::topology_mismatch(scope, &stored, &asked, dirty));
    }
    Ok(Some(stored))
}

/// Agrees with Redis on the topologies of all these entities, or says who asks for what.
pub(super) async fn agree(
    connection: &Connection,
    scripts: &Scripts,
    registrations: &[Registration],
) -> Result<(), BufferError> {
    let Some(first) = registrations.first() else { return Ok(()) };
    let key = keys::topology(&first.scope.namespace);
    let failed = |error| classify(&format!("cannot agree on the topology in `{key}`"), error);
    // Each round has seen what is stored; somebody else may change it between two of them.
    for _ in 0..3 {
        let mut call = scripts.topology.key(&key);
        for registration in registrations {
            let (scope, asked) = (&registration.scope, registration.topology().to_string());
            let stored = look(connection, registration).await?;
            if stored.as_ref().is_some_and(|stored| *stored != asked) {
                // Clean copies of a layout that ends would be old if it came back later.
                forget(connection, scope, Copies::All).await.map_err(failed)?;
            }
            call.arg(scope.entity).arg(asked).arg(stored.unwrap_or_default());
        }
        if call.invoke_async(&mut connection.clone()).await.map_err(failed)? {
            return Ok(());
        }
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
    let failed = |error| classify(&format!("cannot read the topology in `{key}`"), error);
    let own_text = own.to_string();
    let mut found = stored(connection, scope).await.map_err(failed)?;
    if found.is_none() {
        let mut call = scripts.topology.key(&key);
        call.arg(scope.entity).arg(&own_text).arg("");
        if call.invoke_async(&mut connection.clone()).await.map_err(failed)? {
            return Ok(());
        }
        found = stored(connection, scope).await.map_err(failed)?;
    }
    match found {
        Some(found) if found != own_text => Err(buffer::topology_changed(scope, &found, own)),
        _ => Ok(()),
    }
}

async fn stored(connection: &Connection, scope: &Scope) -> RedisResult<Option<String>> {
    let mut command = redis::cmd("HGET");
    command.arg(keys::topology(&scope.namespace)).arg(scope.entity);
    command.query_async(&mut connection.clone()).await
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
