//! Whether the tasks of an engine go on.

use tokio::sync::watch;

/// Whether tasks go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Stopped,
}

/// Waits for the end of the engine, whether by shutdown or because it was dropped.
pub(crate) async fn stopped(phase: &mut watch::Receiver<Phase>) {
    // The guard that `wait_for` returns must not live across an await of the caller.
    let _ = phase.wait_for(|phase| *phase == Phase::Stopped).await.is_ok();
}
