//! The topology of an entity: fixed while anything of it is dirty or dead, changed in one step.
//!
//! A layout that is not the stored one is *sealed*: its `open` (and `log`) are no hash (and no list), so Redis itself refuses
//! whatever a program of that layout still sends, a plain HSET too, and no write costs anything more for it. What every verb
//! does on a sealed layout: writes, swaps, transactions, reads, tokens, fills, rotations, looks and replays touch `open`
//! before anything else, and fail. Steps, claims and pages find `flushing` and the closed log empty, as they were when it was
//! sealed. Leases can be taken and mean nothing; clean copies can only be dropped.
//!
//! A layout can be left only when nothing of it is dirty. So that this comes to pass, it is announced before ([`leave`](super::leave)): its
//! partitions are closed for writes one after the other, each with its epoch.
//!
//! A Redis that lost all its data has lost its seals: the topology is fixed anew by whoever comes first, and others notice at
//! their next look.

use std::time::Duration;

use redis::RedisResult;

use super::classify::classify;
use super::connection::Connection;
use super::keys::{self, PartitionKeys};
use super::leave::{Say, say, target};
use super::orphans;
use super::scripts::Scripts;
use crate::buffer;
use crate::buffer::redis::clean_copies::{Copies, forget};
use crate::buffer::{LAYOUT, Registration, Topology, TopologyChange, Waiting};
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::telemetry::scope::Scope;

/// Partitions an entity can have; keeps a forged or foreign topology record from asking for a billion keys.
const MAX_PARTITIONS: u16 = 4096;

/// Rounds of an agreement: each has seen what is stored, and somebody else may change it between two of them.
const ROUNDS: usize = 5;

/// One entity, and what it is to have.
struct Wish<'a> {
    scope: &'a Scope,
    asked: Topology,
    /// What was found stored.
    seen: Option<Topology>,
}

impl<'a> Wish<'a> {
    async fn look(connection: &Connection, scope: &'a Scope, asked: Topology) -> Result<Self, BufferError> {
        let key = keys::topology(&scope.namespace);
        let failed = |error| classify(&format!("cannot read the topology in `{key}`"), error);
        let stored = stored(connection, scope).await.map_err(failed)?;
        let seen = stored.map(|stored| known(&stored).ok_or_else(|| unknown(&key, scope, &stored, &asked)));
        Ok(Self { scope, asked, seen: seen.transpose()? })
    }

    fn changes(&self) -> bool {
        self.seen.as_ref() != Some(&self.asked)
    }

    fn mismatch(&self, waiting: Waiting) -> BufferError {
        let stored = self.seen.as_ref().map(ToString::to_string).unwrap_or_default();
        buffer::topology_mismatch(self.scope, &stored, &self.asked, waiting)
    }
}

/// What this version can work on.
pub(super) fn known(stored: &str) -> Option<Topology> {
    Topology::parse(stored).filter(|t| t.layout == LAYOUT && t.partitions <= MAX_PARTITIONS && t.to_string() == stored)
}

fn unknown(key: &str, scope: &Scope, stored: &str, asked: &Topology) -> BufferError {
    let entity = scope.entity;
    let text = format!(
        "`{key}` says `{stored}` for entity `{entity}`, which this version does not know; it asks for `{asked}`"
    );
    BufferError::new(BufferErrorKind::Topology, text)
}

/// What the script says.
enum Answer {
    Done,
    /// Something else is stored than was seen.
    Moved,
    /// This one must not change.
    Refused(usize, Waiting),
}

/// Runs the script over these wishes: to switch, or only to look.
async fn ask(
    connection: &Connection,
    scripts: &Scripts,
    wishes: &[Wish<'_>],
    switch: bool,
) -> Result<Answer, BufferError> {
    let Some(first) = wishes.first() else { return Ok(Answer::Done) };
    let key = keys::topology(&first.scope.namespace);
    let mut call = scripts.topology.key(&key);
    call.key(keys::layouts(&first.scope.namespace)).key(keys::leaving(&first.scope.namespace));
    call.arg(if switch { "switch" } else { "look" });
    for wish in wishes {
        let left = wish.seen.as_ref().filter(|_| wish.changes());
        let partitions = left.map_or(0, |left| left.partitions);
        for keys in left.map(|left| PartitionKeys::all(wish.scope, left)).unwrap_or_default() {
            call.key(&keys.open).key(&keys.flushing).key(&keys.log).key(&keys.closed_log).key(&keys.dead);
            call.key(&keys.meta).key(&keys.attempts).key(&keys.groups).key(&keys.groups_flushing).key(&keys.stale);
        }
        let next = if wish.changes() { PartitionKeys::all(wish.scope, &wish.asked) } else { Vec::new() };
        for keys in &next {
            call.key(&keys.open).key(&keys.flushing).key(&keys.log).key(&keys.closed_log).key(&keys.dead);
        }
        call.arg(wish.scope.entity).arg(wish.asked.to_string());
        call.arg(wish.seen.as_ref().map(ToString::to_string).unwrap_or_default());
        call.arg(partitions).arg(u8::from(left.is_some_and(|left| left.append))).arg(next.len());
    }
    let answer: (i64, usize, u64, u64, u64, u64) = call
        .invoke_async(&mut connection.clone())
        .await
        .map_err(|error| classify(&format!("cannot agree on the topology in `{key}`"), error))?;
    Ok(match answer {
        (1, ..) => Answer::Done,
        (2, place, dirty, letters, dirty_there, letters_there) => {
            Answer::Refused(place, Waiting { dirty, letters, dirty_there, letters_there })
        }
        _ => Answer::Moved,
    })
}

fn refusal(wishes: &[Wish<'_>], place: usize, waiting: Waiting) -> BufferError {
    let refused = wishes.get(place).map(|wish| wish.mismatch(waiting));
    refused.unwrap_or_else(|| BufferError::new(BufferErrorKind::Topology, "the topology cannot change now"))
}

fn unsettled(scope: &Scope) -> BufferError {
    let key = keys::topology(&scope.namespace);
    BufferError::new(BufferErrorKind::Topology, format!("`{key}` changes while this program starts"))
}

/// Looks whether an agreement would be refused now. Changes nothing.
pub(super) async fn look(
    connection: &Connection,
    scripts: &Scripts,
    registration: &Registration,
) -> Result<(), BufferError> {
    for _ in 0..ROUNDS {
        let wishes = [Wish::look(connection, &registration.scope, registration.topology()).await?];
        match ask(connection, scripts, &wishes, false).await? {
            Answer::Done => return Ok(()),
            Answer::Moved => {}
            Answer::Refused(place, waiting) => return Err(refusal(&wishes, place, waiting)),
        }
    }
    Err(unsettled(&registration.scope))
}

/// What an agreement would change now, and what stands in its way.
pub(super) async fn change(
    connection: &Connection,
    scripts: &Scripts,
    registration: &Registration,
) -> Result<Option<TopologyChange>, BufferError> {
    for _ in 0..ROUNDS {
        let wishes = [Wish::look(connection, &registration.scope, registration.topology()).await?];
        let answer = ask(connection, scripts, &wishes, false).await?;
        let stored = wishes.into_iter().find(Wish::changes).and_then(|wish| wish.seen);
        let Some(stored) = stored else { return Ok(None) };
        let waiting = match answer {
            Answer::Done => Waiting::default(),
            Answer::Refused(_, waiting) => waiting,
            Answer::Moved => continue,
        };
        return Ok(Some(TopologyChange::new(stored, waiting)));
    }
    Err(unsettled(&registration.scope))
}

/// Says that the stored layout is to be left for the one of this registration, or is not after all.
pub(super) async fn leave(
    connection: &Connection,
    scripts: &Scripts,
    registration: &Registration,
    stored: &Topology,
    lasts: Option<Duration>,
) -> Result<(), BufferError> {
    let (scope, asked) = (&*registration.scope, registration.topology());
    let what = lasts.map_or(Say::Staying(&asked), |lasts| Say::Leaving(&asked, lasts));
    say(connection, scripts, scope, stored, &PartitionKeys::all(scope, stored), what).await.map(drop)
}

/// Agrees with Redis on the topologies of all these entities, or says who asks for what.
pub(super) async fn agree(
    connection: &Connection,
    scripts: &Scripts,
    registrations: &[Registration],
) -> Result<(), BufferError> {
    let asked = registrations.iter().map(|registration| (&*registration.scope, registration.topology()));
    fix(connection, scripts, asked.collect()).await
}

async fn fix(connection: &Connection, scripts: &Scripts, asked: Vec<(&Scope, Topology)>) -> Result<(), BufferError> {
    let Some((first, _)) = asked.first() else { return Ok(()) };
    let first = *first;
    for _ in 0..ROUNDS {
        let mut wishes = Vec::with_capacity(asked.len());
        for (scope, asked) in &asked {
            wishes.push(Wish::look(connection, scope, asked.clone()).await?);
        }
        if let Answer::Refused(place, waiting) = ask(connection, scripts, &wishes, false).await? {
            return Err(refusal(&wishes, place, waiting));
        }
        for wish in wishes.iter().filter(|wish| wish.changes() && wish.seen.is_some()) {
            // Clean copies of an earlier life of this layout. It is sealed still, so none comes back before the switch.
            let layout = wish.asked.layout_name();
            forget(connection, wish.scope, Copies::OfLayout(&layout))
                .await
                .map_err(|error| classify("cannot drop the clean copies of an earlier topology", error))?;
        }
        match ask(connection, scripts, &wishes, true).await? {
            Answer::Done => return open_forsaken(connection, scripts, &wishes).await,
            Answer::Moved => {}
            Answer::Refused(place, waiting) => return Err(refusal(&wishes, place, waiting)),
        }
    }
    Err(unsettled(first))
}

/// Opens what a program has closed that is gone, in layouts that stay as they are.
async fn open_forsaken(connection: &Connection, scripts: &Scripts, wishes: &[Wish<'_>]) -> Result<(), BufferError> {
    for wish in wishes.iter().filter(|wish| !wish.changes()) {
        let found = stands(connection, wish.scope).await;
        let (_, mark) =
            found.map_err(|error| classify("cannot look whether an entity is being laid out anew", error))?;
        if mark.is_none() {
            continue;
        }
        let partitions = PartitionKeys::all(wish.scope, &wish.asked);
        say(connection, scripts, wish.scope, &wish.asked, &partitions, Say::Nothing).await?;
    }
    Ok(())
}

/// Whether the topology is still the one that a space was opened with; what was closed by a program that wanted another one and is gone
/// is opened again. Where none is stored Redis has lost its data, and
/// with them all reason to refuse this one: it is fixed anew, by whoever comes first.
pub(super) async fn confirm(
    connection: &Connection,
    scripts: &Scripts,
    scope: &Scope,
    own: &Topology,
    partitions: &[PartitionKeys],
) -> Result<(), BufferError> {
    for _ in 0..ROUNDS {
        let found = stands(connection, scope).await;
        let found = found.map_err(|error| {
            classify(&format!("cannot read the topology in `{}`", keys::topology(&scope.namespace)), error)
        });
        match found? {
            (Some(found), mark) if found == own.to_string() => {
                if mark.is_some() {
                    say(connection, scripts, scope, own, partitions, Say::Nothing).await?;
                }
                return Ok(());
            }
            (Some(found), _) => {
                // What this program may have written before it noticed waits where nobody else looks.
                orphans::list(connection, scope, own).await;
                return Err(buffer::topology_changed(scope, &found, own));
            }
            (None, _) => {}
        }
        let wishes = [Wish { scope, asked: own.clone(), seen: None }];
        if let Answer::Done = ask(connection, scripts, &wishes, true).await? {
            return Ok(());
        }
    }
    Err(unsettled(scope))
}

/// Why Redis refuses what a space of this topology asks: another one is stored, or this one is being left and takes no writes; `None` when
/// it is for neither.
pub(super) async fn reason(connection: &Connection, scope: &Scope, own: &Topology) -> RedisResult<Option<BufferError>> {
    let (found, mark) = stands(connection, scope).await?;
    Ok(match found {
        Some(found) if found != own.to_string() => Some(buffer::topology_changed(scope, &found, own)),
        _ => mark.as_deref().and_then(target).map(|to| buffer::topology_leaving(scope, to, own)),
    })
}

/// What is stored, and the mark of who wants another one.
async fn stands(connection: &Connection, scope: &Scope) -> RedisResult<(Option<String>, Option<String>)> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("HGET").arg(keys::topology(&scope.namespace)).arg(scope.entity);
    pipeline.cmd("HGET").arg(keys::leaving(&scope.namespace)).arg(scope.entity);
    pipeline.query_async(&mut connection.clone()).await
}

async fn stored(connection: &Connection, scope: &Scope) -> RedisResult<Option<String>> {
    let mut command = redis::cmd("HGET");
    command.arg(keys::topology(&scope.namespace)).arg(scope.entity);
    command.query_async(&mut connection.clone()).await
}
