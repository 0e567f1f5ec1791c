//! Before an engine runs: the buffer agrees on its entities, and what stands in the way of another topology is drained.
//!
//! ```text
//! agree ──▶ refused, something is dirty
//!   announce: each partition is closed for writes when its epoch is; renewed three times in a lease
//!   drain:    whoever owns a partition flushes it; where no other worker lives, running of the old layout do, here
//!   agree     again and again; the switch is its own step, and safe whatever has become of the rest
//!   cancel:   what cannot be done in time is taken back
//! ```
//!
//! A program that dies in the middle leaves a mark that runs out, and leases that do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::FAREWELL;
use super::setup::{Context, Examined};
use crate::buffer::{Registration, TopologyChange};
use crate::entity_runtime::AnyEntity;
use crate::error::StartError;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::error::finding::Finding;
use crate::runtime::backoff::LOOK_AGAIN;
use crate::runtime::lifecycle::Phase;
use crate::telemetry::log;

/// Longest time between two marks, and shortest life of one: an outage of a second cancels nothing.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// An entity that is to be laid out anew.
struct Leaving<'e> {
    entity: &'e dyn Examined,
    change: TopologyChange,
}

impl Leaving<'_> {
    fn registration(&self) -> &Registration {
        self.entity.registration()
    }

    /// Whether draining may help, if anything has to.
    fn may_drain(&self, within: Duration) -> bool {
        let TopologyChange { dirty, letters, left_over, .. } = self.change;
        letters + left_over == 0 && (dirty == 0 || (!within.is_zero() && self.entity.can_drain(&self.change.stored)))
    }
}

fn refused(entity: &dyn Examined, source: BufferError) -> StartError {
    StartError::Buffer { entity: entity.registration().scope.entity, source }
}

fn unreachable(source: BufferError) -> StartError {
    StartError::Buffer { entity: "(all)", source }
}

/// What a start would do about the topology of this entity, or why it would be refused.
pub(super) async fn look(
    context: &Context,
    entity: &dyn Examined,
    within: Duration,
) -> Result<Option<Finding>, StartError> {
    let failed = |source| refused(entity, source);
    let change = context.buffer.change(entity.registration()).await.map_err(failed)?;
    let leaving = change.map(|change| Leaving { entity, change }).filter(|leaving| leaving.may_drain(within));
    let Some(leaving) = leaving else {
        // Nothing changes, or it is refused: the buffer says why.
        return context.buffer.space(entity.registration().clone()).await.map(|_| None).map_err(failed);
    };
    let (registration, TopologyChange { stored, dirty, .. }) = (leaving.registration(), &leaving.change);
    let text = format!(
        "it is stored with `{stored}`, this program asks for `{}`: a start closes the old layout for writes, waits for at most {within:?} \
         until the {dirty} records that are dirty now are flushed, and lays the entity out anew",
        registration.topology(),
    );
    let subject = format!("entity `{}`", registration.scope.entity);
    Ok((*dirty > 0).then(|| Finding::warning("topology-change", subject, text)))
}

/// The buffer agrees on all of these entities, or on none.
pub(super) async fn agree(
    context: &Context,
    entities: &[Box<dyn Examined>],
    within: Duration,
) -> Result<(), StartError> {
    let registrations: Vec<Registration> = entities.iter().map(|entity| entity.registration().clone()).collect();
    let until = Instant::now() + within;
    loop {
        let refusal = match context.buffer.agree(&registrations).await {
            Ok(()) => return Ok(()),
            Err(refusal) if refusal.kind() == BufferErrorKind::Topology => refusal,
            Err(error) => return Err(unreachable(error)),
        };
        let leaving = leaving(context, entities).await?;
        let obstacle = leaving.iter().find(|leaving| !leaving.may_drain(within));
        if let Some(Leaving { entity, .. }) = obstacle {
            return Err(refused(*entity, refusal));
        }
        if leaving.is_empty() || within.is_zero() {
            return Err(unreachable(refusal));
        }
        for Leaving { entity, change } in &leaving {
            log::topology_draining(&entity.registration().scope, &change.stored, change.dirty, within);
        }
        let drain = Drain::begin(context, entities, &leaving).await?;
        let drained = drain.wait(context, &registrations, (until, within)).await;
        if drained.is_err() {
            // First, so that writers need not wait for the rest. Where it fails, the mark runs out.
            let cancel = leaving.iter().map(|one| context.buffer.cancel(one.registration(), &one.change.stored));
            join_all(cancel).await;
        }
        drain.end().await;
        match drained {
            Ok(Drained::Agreed) => return Ok(()),
            Ok(Drained::Moved) => {}
            Err((place, error)) => {
                let entity = leaving.get(place).map(|leaving| leaving.entity);
                return Err(entity.map_or_else(|| unreachable(error.clone()), |entity| refused(entity, error.clone())));
            }
        }
    }
}

/// Those that are to be laid out anew.
async fn leaving<'e>(context: &Context, entities: &'e [Box<dyn Examined>]) -> Result<Vec<Leaving<'e>>, StartError> {
    let mut leaving = Vec::new();
    for entity in entities {
        let change = context.buffer.change(entity.registration()).await;
        let change = change.map_err(|source| refused(&**entity, source))?;
        leaving.extend(change.map(|change| Leaving { entity: &**entity, change }));
    }
    Ok(leaving)
}

/// What came of waiting.
enum Drained {
    /// The buffer has agreed.
    Agreed,
    /// Somebody else has changed a topology meanwhile.
    Moved,
}

/// Entities that flush what stands in the way, and those of entities that belong to it.
struct Drain<'e> {
    leaving: &'e [Leaving<'e>],
    running: Vec<Arc<dyn AnyEntity>>,
    tasks: JoinSet<()>,
    phase: watch::Sender<Phase>,
}

impl<'e> Drain<'e> {
    async fn begin(
        context: &Context,
        entities: &[Box<dyn Examined>],
        leaving: &'e [Leaving<'e>],
    ) -> Result<Self, StartError> {
        let mut opened = Vec::new();
        let family = family(entities, leaving);
        for entity in entities.iter().filter(|entity| family.contains(entity.registration().scope.entity)) {
            let name = entity.registration().scope.entity;
            let stored = leaving.iter().find(|leaving| leaving.registration().scope.entity == name);
            let stored =
                stored.map_or_else(|| entity.registration().topology(), |leaving| leaving.change.stored.clone());
            opened.push(entity.open_aside(context, &stored).await?);
        }
        let members: Vec<_> = opened.iter().map(|entity| entity.member()).collect();
        opened.iter().for_each(|entity| entity.link(&members));
        join_all(opened.iter().map(|entity| entity.begin())).await;
        let (phase, mut tasks) = (watch::channel(Phase::Running).0, JoinSet::new());
        let running = opened.into_iter().map(|entity| entity.flush_only(&mut tasks, &phase)).collect();
        Ok(Self { leaving, running, tasks, phase })
    }

    /// Waits until the buffer agrees; or says what stands in the way for good or until the time is over, and of which entity.
    async fn wait(
        &self,
        context: &Context,
        registrations: &[Registration],
        (until, within): (Instant, Duration),
    ) -> Result<Drained, (usize, BufferError)> {
        let lasts = context.lease.max(3 * RENEW_EVERY);
        let (mut next_mark, mut pause) = (Instant::now(), LOOK_AGAIN.0);
        loop {
            if Instant::now() >= next_mark {
                // What fails is said again soon.
                let announce = self
                    .leaving
                    .iter()
                    .map(|one| context.buffer.announce(one.registration(), &one.change.stored, lasts));
                join_all(announce).await;
                next_mark = Instant::now() + RENEW_EVERY;
            }
            join_all(self.running.iter().map(|entity| entity.nudge())).await;
            let error = match context.buffer.agree(registrations).await {
                Ok(()) => return Ok(Drained::Agreed),
                Err(error) => error,
            };
            let over = Instant::now() >= until;
            let waited = || error.clone().and(&format!("; it was waited for, as long as a start may ({within:?})"));
            for (place, leaving) in self.leaving.iter().enumerate() {
                match context.buffer.change(leaving.registration()).await {
                    Ok(Some(now)) if now.stored == leaving.change.stored => {
                        if now.letters + now.left_over > 0 {
                            // The refusal may be older than what stands in the way for good.
                            let refused = context.buffer.agree(registrations).await;
                            return refused.map(|()| Drained::Agreed).map_err(|error| (place, error));
                        }
                        if over && now.dirty > 0 {
                            return Err((place, waited()));
                        }
                    }
                    Ok(_) => return Ok(Drained::Moved),
                    // An outage: it may be over before the time is.
                    Err(_) => {}
                }
            }
            if over {
                return Err((usize::MAX, waited()));
            }
            tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            pause = (2 * pause).min(LOOK_AGAIN.1);
        }
    }

    /// Ends the running: what is on its way to the sink is seen through, for a moment, and everything is given up.
    async fn end(mut self) {
        for entity in &self.running {
            entity.close();
            entity.end();
        }
        self.phase.send_replace(Phase::Stopped);
        let mut cut = vec![false; self.running.len()];
        if timeout(FAREWELL, async { while self.tasks.join_next().await.is_some() {} }).await.is_err() {
            cut = self.running.iter().map(|entity| entity.is_at_work()).collect();
            self.tasks.abort_all();
            let _ = timeout(FAREWELL, async { while self.tasks.join_next().await.is_some() {} }).await;
        }
        let releases = self.running.iter().zip(cut).map(async |(entity, cut)| {
            if timeout(FAREWELL, entity.release(cut)).await.is_err() {
                log::not_given_up(entity.entity());
            }
        });
        join_all(releases).await;
    }
}

/// The entities that are to be laid out anew, and all that these belong to or that belong to them: rows of one wait for rows of the other.
fn family(entities: &[Box<dyn Examined>], leaving: &[Leaving<'_>]) -> BTreeSet<&'static str> {
    let mut family: BTreeSet<&'static str> = leaving.iter().map(|one| one.registration().scope.entity).collect();
    loop {
        let known = family.len();
        for entity in entities {
            let name = entity.registration().scope.entity;
            if family.contains(name) {
                family.extend(entity.parents());
            } else if entity.parents().iter().any(|parent| family.contains(parent)) {
                family.insert(name);
            }
        }
        if family.len() == known {
            return family;
        }
    }
}
