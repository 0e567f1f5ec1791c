//! Each mechanism taken away breaks a promise.

use super::*;
use crate::{P1, P3, P3_STALE, P4, P5, P5_UPDATE, P8, P9};

/// Returns the number of steps that it takes.
fn breaks(mechanisms: &[Mechanism], promise: &'static str, bounds: Bounds) -> usize {
    // Three generations are enough, and a trace in which nothing is renamed can be read.
    let bounds = Bounds { generations: bounds.generations.or(Some(3)), ..bounds };
    let without = mechanisms.iter().fold(Without::NOTHING, |without, &mechanism| without.and(mechanism));
    let found = counterexample(&format!("{mechanisms:?}"), Protocol { bounds, without }, promise);
    found.unwrap_or_else(|| panic!("{promise:?} holds without {mechanisms:?}")).len()
}

macro_rules! without {
    ($($name:ident: $mechanism:ident, $promise:expr, $bounds:expr;)*) => {
        $(#[test]
        fn $name() {
            breaks(&[Mechanism::$mechanism], $promise, $bounds);
        })*
    };
}

/// What is enough for the fence.
const FEW: Bounds = Bounds { orphans: false, copies: false, ..WORKERS };
/// What is enough for most of what readers see.
const ONE_WRITE: Bounds = Bounds { writes: 1, ..READER };

without! {
    without_closed_epochs_p4_breaks: ClosedEpochs, P4, WORKERS;
    without_commit_first_p1_breaks: CommitFirst, P1, WORKERS;
    without_no_ttl_p1_breaks: NoTtl, P1, WORKERS;
    without_tombstones_p5_breaks: Tombstones, P5, WORKERS;

    without_fence_p3_breaks: Fence, P3, FEW;
    without_fence_a_stale_worker_writes: Fence, P3_STALE, WORKERS;
    without_fence_lock_p3_breaks: FenceLock, P3, FEW;
    without_row_lock_p3_breaks: RowLock, P3, WORKERS;
    without_fence_in_the_sink_p3_breaks: FenceInSink, P3, Bounds { generations: Some(2), ..LOSS };
    without_fence_first_p3_breaks: FenceFirst, P3, FEW;
    without_right_of_rotation_p3_breaks: RightOfRotation, P3, FEW;
    without_settle_p3_breaks: Settle, P3, FEW;

    without_step_epoch_p1_breaks: StepEpoch, P1, FEW;
    without_step_epoch_p4_breaks: StepEpoch, P4, FEW;
    without_back_if_absent_p1_breaks: BackIfAbsent, P1, WORKERS;
    without_replay_check_p1_breaks: ReplayCheck, P1, WORKERS;
    without_replay_check_p3_breaks: ReplayCheck, P3, FEW;
    without_ack_clears_letter_p3_breaks: AckClearsLetter, P3, FEW;

    without_copy_left_behind_p8_breaks: CopyLeftBehind, P8, WORKERS;
    without_copy_left_behind_p9_breaks: CopyLeftBehind, P9, ONE_WRITE;
    without_copy_pinned_p8_breaks: CopyPinned, P8, WORKERS;
    without_copy_pinned_p9_breaks: CopyPinned, P9, ONE_WRITE;
    without_ack_clears_copy_p9_breaks: AckClearsCopy, P9, ONE_WRITE;
    without_load_token_p9_breaks: LoadToken, P9, ONE_WRITE;
    without_open_before_flushing_p9_breaks: OpenBeforeFlushing, P9, READER;
    without_copy_last_p9_breaks: CopyLast, P9, ONE_WRITE;
    without_anchor_an_update_is_lost: Anchor, P5_UPDATE, Bounds { copies: false, ..UPDATER };
}

/// The lease is looked at all the same: without it, a stale step does its harm sooner.
#[test]
fn without_lease_and_epoch_p4_breaks_sooner() {
    let both = breaks(&[Mechanism::StepLease, Mechanism::StepEpoch], P4, FEW);
    let epoch = breaks(&[Mechanism::StepEpoch], P4, FEW);
    assert!(both < epoch, "{both} steps, {epoch} steps");
}
