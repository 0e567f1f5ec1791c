//! Fences: what makes a stale owner of a partition harmless.

use wb_core::{Fence, SinkError};

use crate::tx::Tx;

/// Checks, in the transaction of a batch, that its fences are still the newest, and locks them until it ends.
///
/// The sink issues no fences yet, so there is nothing to check.
#[expect(clippy::unused_async, reason = "the check will read in the transaction")]
pub(crate) async fn check(_tx: &mut Tx, _fences: &[Fence]) -> Result<(), SinkError> {
    Ok(())
}
