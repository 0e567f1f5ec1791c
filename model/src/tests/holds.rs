//! The protocol as it is keeps its promises.

use super::*;

fn holds(what: &str, bounds: Bounds) {
    let checker = explore(what, Protocol { bounds, without: Without::NOTHING });
    checker.assert_properties();
}

#[test]
fn the_protocol_holds() {
    holds("workers", WORKERS);
}

#[test]
fn the_protocol_holds_for_readers() {
    holds("readers", READER);
}

#[test]
fn the_protocol_holds_for_updates() {
    holds("updates", UPDATER);
}

#[test]
fn the_protocol_holds_without_clean_copies() {
    holds("readers, no copies", Bounds { copies: false, refusals: 0, ..READER });
    holds("updates, no copies", Bounds { copies: false, ..UPDATER });
}

/// The scripts' look at the lease spares work. What keeps the promises is the epoch's number and the sink's fence.
#[test]
fn a_lease_is_only_liveness() {
    let without = Without::NOTHING.and(Mechanism::RotateLease).and(Mechanism::StepLease);
    explore("no lease checks", Protocol { bounds: WORKERS, without }).assert_properties();
}

/// Larger bounds.
mod more {
    use super::*;

    const MORE: Bounds = Bounds { writes: 3, ..WORKERS };

    #[test]
    #[ignore = "half a minute"]
    fn the_protocol_holds_for_four_writes_and_two_refusals() {
        holds("more of the workers", Bounds { writes: 4, refusals: 2, ..MORE });
    }

    #[test]
    #[ignore = "minutes"]
    fn the_protocol_holds_for_updates_and_refusals() {
        holds("more updates", Bounds { updater: true, ..MORE });
    }

    #[test]
    #[ignore = "minutes, and gigabytes of memory"]
    fn the_protocol_holds_for_readers_and_three_writes() {
        holds("more of the reader", Bounds { orphans: false, reader: true, ..MORE });
    }
}
