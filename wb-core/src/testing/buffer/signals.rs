//! Signals.

use std::sync::Arc;

use tokio::time::timeout;

use super::{Bench, PARTITIONS, PATIENCE, scope};
use crate::buffer::{Buffer, Ear, Registration};
use crate::entity::codec::Format;

/// A nudge wakes whoever flushes the entity, and nobody else.
///
/// # Panics
/// When one is not woken, or another is.
pub async fn nudges_wake_who_flushes(buffer: &(impl Buffer + ?Sized)) {
    let check = "nudges wake who flushes";
    let (here, elsewhere) = (scope(PARTITIONS), scope(PARTITIONS));
    let registration = |scope: &Arc<_>, nudges| Registration {
        ear: Ear { nudges, ..Ear::default() },
        ..Registration::new(Arc::clone(scope), Format::Json)
    };
    let mut woken = Vec::new();
    let mut benches = Vec::new();
    for (scope, nudges) in [(&here, true), (&here, true), (&here, false), (&elsewhere, true)] {
        let registration = registration(scope, nudges);
        woken.push(registration.pressure.clone());
        benches.push(Bench::of(buffer, check, registration).await);
    }
    let Some(asks) = benches.get(2) else { return };
    asks.done("nudge", asks.space.nudge().await);
    for (n, pressure) in woken.iter().enumerate() {
        if n < 2 {
            assert!(timeout(PATIENCE, pressure.wait()).await.is_ok(), "{check}: number {n} is not woken");
        } else {
            // Told at the same time as the others, if at all.
            assert!(!pressure.is_nudged(), "{check}: number {n} is woken");
        }
    }
}
