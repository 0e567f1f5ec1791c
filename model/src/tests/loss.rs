//! Redis loses its data, or comes back as it was some time ago.

use super::*;
use crate::{P1, P3, P3_STALE, P8};

/// What the sink keeps, it keeps: the generations, and what they guard.
#[test]
fn p3_generations_survive_a_loss() {
    let protocol = Protocol { bounds: LOSS, without: Without::NOTHING };
    let checker = explore_all("loss", protocol);
    for promise in [P3, P3_STALE, P8] {
        checker.assert_no_discovery(promise);
    }
}

/// Numbers of epochs come again after a loss. A worker that has been writing all the while and has its lease again
/// takes another worker's epoch for its own.
#[test]
fn p1_a_numbered_epoch_is_mistaken_after_a_loss() {
    let bounds = Bounds { generations: Some(3), ..LOSS };
    assert!(counterexample("numbered epochs", Protocol { bounds, without: Without::NOTHING }, P1).is_some());
}

/// With a name of its own for every rotation, all that is written after the loss is safe again.
#[test]
fn p1_a_stamped_epoch_is_not_mistaken() {
    let protocol = Protocol { bounds: Bounds { stamps: true, ..LOSS }, without: Without::NOTHING };
    explore("loss, stamped epochs", protocol).assert_properties();
}

/// The stamp says all that lease and number say.
#[test]
fn a_stamp_stands_for_lease_and_number() {
    let without = Without::NOTHING.and(Mechanism::StepLease).and(Mechanism::StepEpoch).and(Mechanism::RotateLease);
    let stamped = Bounds { stamps: true, ..WORKERS };
    explore("only stamps", Protocol { bounds: stamped, without }).assert_properties();
    explore("only stamps, loss", Protocol { bounds: Bounds { stamps: true, ..LOSS }, without }).assert_properties();
}
