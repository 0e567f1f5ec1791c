//! The look at a sink: at start, and again and again where it was away then. What is wrong refuses a start; what is away does not.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;

use crate::entity::Entity;
use crate::entity_runtime::EntityRuntime;
use crate::error::finding;
use crate::error::finding::Finding;
use crate::error::sink::{ErrorKind, SinkError};
use crate::error::{ConfigError, StartError, chain};
use crate::options::EntityOptions;
use crate::options::retry_policy::look_again;
use crate::ownership::Suspension;
use crate::runtime::lifecycle::{Phase, stopped};
use crate::sink::Sink;
use crate::telemetry::findings::Findings;
use crate::telemetry::log;
use crate::telemetry::scope::Scope;

/// What a look found.
#[derive(Debug)]
pub(super) struct Seen {
    /// Whether the sink writes a batch whole or not at all; `None`: it was away, and nobody knows.
    pub(super) whole: Option<bool>,
    pub(super) findings: Vec<Finding>,
    /// It does not answer.
    pub(super) away: Option<Arc<SinkError>>,
}

/// Looks at a sink and changes nothing. One that is away is a finding, not an error.
pub(super) async fn look<E: Entity>(
    sink: &dyn Sink<E>,
    scope: &Scope,
    options: &EntityOptions,
) -> Result<Seen, StartError> {
    match examine(sink, scope, options).await {
        Ok((whole, findings)) => Ok(Seen { whole: Some(whole), findings, away: None }),
        Err(error) => {
            let cause = away(error)?;
            // What it can say without asking anybody.
            let whole = sink.writes_whole().now_or_never().and_then(Result::ok);
            fits(E::NAME, options, whole)?;
            Ok(Seen { whole, findings: vec![away_finding(E::NAME, &cause)], away: Some(cause) })
        }
    }
}

/// Makes what the sink needs, unless it is away.
pub(super) async fn prepare<E: Entity>(sink: &dyn Sink<E>, scope: &Scope, seen: &mut Seen) -> Result<(), StartError> {
    if seen.away.is_some() {
        return Ok(());
    }
    if let Err(error) = made_ready(sink, scope).await {
        let cause = away(error)?;
        seen.findings = vec![away_finding(E::NAME, &cause)];
        seen.away = Some(cause);
    }
    Ok(())
}

async fn examine<E: Entity>(
    sink: &dyn Sink<E>,
    scope: &Scope,
    options: &EntityOptions,
) -> Result<(bool, Vec<Finding>), StartError> {
    let failed = |source| StartError::Sink { entity: E::NAME, source };
    sink.open(scope).await.map_err(failed)?;
    let whole = sink.writes_whole().await.map_err(failed)?;
    fits(E::NAME, options, Some(whole))?;
    Ok((whole, sink.examine(scope).await.map_err(failed)?))
}

async fn made_ready<E: Entity>(sink: &dyn Sink<E>, scope: &Scope) -> Result<(), StartError> {
    sink.prepare(scope).await.map_err(|source| StartError::Sink { entity: E::NAME, source })
}

/// Whether the options ask for what the sink cannot do.
fn fits(entity: &'static str, options: &EntityOptions, whole: Option<bool>) -> Result<(), StartError> {
    if options.transactions && whole == Some(false) {
        let what = "transactions over partitions need a sink with transactions (of MongoDB, a replica set)";
        return Err(ConfigError::Option { entity, what }.into());
    }
    Ok(())
}

/// What a sink that does not answer says; every other error is one.
fn away(error: StartError) -> Result<Arc<SinkError>, StartError> {
    match error {
        StartError::Sink { source, .. } if matches!(source.kind(), ErrorKind::Unavailable | ErrorKind::Transient) => {
            Ok(Arc::new(source))
        }
        error => Err(error),
    }
}

fn away_finding(entity: &str, cause: &SinkError) -> Finding {
    let text = format!(
        "the sink does not answer ({}): an engine starts all the same and takes writes, but it flushes nothing, and reads nothing \
         that is not in the buffer, until the sink is there",
        cause.chain()
    );
    Finding::warning("sink-away", format!("entity `{entity}`"), text)
}

/// Looks until the sink can be used or the phase ends. `told`: what the findings say of it.
pub(super) async fn watch<E: Entity>(
    entity: &EntityRuntime<E>,
    findings: &Findings,
    mut told: Vec<Finding>,
    mut phase: watch::Receiver<Phase>,
) {
    let mut tries = 0_u32;
    loop {
        let wait = look_again(tries, &entity.ctx.options.retry, rand::random());
        tries = tries.saturating_add(1);
        let looked = tokio::select! {
            looked = look_after(entity, wait) => looked,
            () = stopped(&mut phase) => return,
        };
        let found = match looked {
            Ok(Seen { away: Some(cause), .. }) => {
                log::sink_away(&entity.ctx.scope, tries, look_again(tries, &entity.ctx.options.retry, 0.5), &cause);
                entity.ctx.readiness.away(cause);
                continue;
            }
            Ok(Seen { whole: Some(whole), findings: found, .. }) if finding::fatal(&found).is_none() => {
                findings.replace(&told, &found);
                let lasted = entity.ctx.readiness.ready(whole);
                log::sink_ready(&entity.ctx.scope, lasted);
                // Only now partitions are taken and fenced.
                entity.leases.resume(Suspension::Sink);
                return;
            }
            Ok(Seen { findings, .. }) => findings,
            Err(error) => vec![Finding::fatal("sink-unfit", format!("entity `{}`", E::NAME), chain(&error))],
        };
        let reason = finding::fatal(&found).unwrap_or_default();
        if entity.ctx.readiness.unfit(&reason) {
            log::sink_unfit(&entity.ctx.scope, &reason);
        }
        findings.replace(&told, &found);
        told = found;
    }
}

/// One look in its time, and what a start would do after it.
async fn look_after<E: Entity>(entity: &EntityRuntime<E>, wait: Duration) -> Result<Seen, StartError> {
    tokio::time::sleep(wait).await;
    let looked = AssertUnwindSafe(async {
        let mut seen = look(&*entity.ctx.sink, &entity.ctx.scope, &entity.ctx.options).await?;
        if finding::fatal(&seen.findings).is_none() {
            prepare(&*entity.ctx.sink, &entity.ctx.scope, &mut seen).await?;
        }
        Ok(seen)
    });
    looked.catch_unwind().await.unwrap_or_else(|_| {
        let cause = Arc::new(SinkError::new(ErrorKind::Unavailable, "the sink panicked while it was looked at"));
        Ok(Seen { whole: None, findings: vec![away_finding(E::NAME, &cause)], away: Some(cause) })
    })
}
