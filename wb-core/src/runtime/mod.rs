//! What every role of an entity works with while the engine runs.

pub(crate) mod backlog;
pub(crate) mod backoff;
pub(crate) mod context;
pub(crate) mod data_loss;
pub(crate) mod intake;
pub(crate) mod lifecycle;
pub(crate) mod observed_epochs;
pub(crate) mod orphans;
pub(crate) mod readiness;
pub(crate) mod shapes;
pub(crate) mod written_since_loss;
