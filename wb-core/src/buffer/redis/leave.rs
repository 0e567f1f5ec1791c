//! A layout that is to be left: announced, so that what is dirty of it becomes less; see `lua/seal.lua`.
//!
//! The mark is in `meta` of every partition, and in one hash of the namespace; the topology is looked at in each script. Partitions are marked some at a time: until the
//! last one is, others may be closed already, which harms nobody.

use std::time::Duration;

use redis::RedisResult;

use super::classify::classify;
use super::connection::Connection;
use super::keys::{self, PartitionKeys};
use super::scripts::{MAX_LEASES, Scripts};
use super::space::millis;
use crate::buffer::Topology;
use crate::error::buffer::BufferError;
use crate::telemetry::scope::Scope;

/// What is said about a layout.
#[derive(Clone, Copy, Debug)]
pub(super) enum Say<'a> {
    /// It is to be left for this topology; this holds for so long unless it is said again.
    Leaving(&'a Topology, Duration),
    /// It is not to be left for this topology after all.
    Staying(&'a Topology),
    /// Nothing: what was closed by a program that says nothing any more is opened again.
    Nothing,
}

/// Says it about the partitions of this layout. Whether it is the stored one; if not, nothing was done.
pub(super) async fn say(
    connection: &Connection,
    scripts: &Scripts,
    scope: &Scope,
    layout: &Topology,
    partitions: &[PartitionKeys],
    say: Say<'_>,
) -> Result<bool, BufferError> {
    let key = keys::topology(&scope.namespace);
    let (verb, to, lasts) = match say {
        Say::Leaving(to, lasts) => ("announce", to.to_string(), lasts),
        Say::Staying(to) => ("cancel", to.to_string(), Duration::ZERO),
        Say::Nothing => ("look", String::new(), Duration::ZERO),
    };
    let parts = partitions.len().div_ceil(MAX_LEASES);
    for (part, partitions) in (1..).zip(partitions.chunks(MAX_LEASES)) {
        let mut call = scripts.leave.key(&key);
        call.key(keys::leaving(&scope.namespace));
        for keys in partitions {
            call.key(&keys.open).key(&keys.log).key(&keys.meta);
        }
        call.arg(scope.entity).arg(layout.to_string()).arg(verb);
        call.arg(&to).arg(millis(lasts)).arg(u8::from(layout.append));
        call.arg(u8::from(part == parts));
        let stored: RedisResult<bool> = call.invoke_async(&mut connection.clone()).await;
        if !stored.map_err(|error| classify(&format!("cannot look at the topology in `{key}`"), error))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The topology that a layout is being left for, by this mark.
pub(super) fn target(mark: &str) -> Option<&str> {
    mark.splitn(3, ' ').nth(2)
}
