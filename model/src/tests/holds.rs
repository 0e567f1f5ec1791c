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

#[test]
#[ignore = "minutes, gigabytes: cargo test -p write-behind-model --release -- --ignored --nocapture --test-threads 1"]
fn the_protocol_holds_for_more() {
    let more = Bounds { writes: 3, refusals: 2, ..WORKERS };
    holds("more of the workers", Bounds { writes: 4, ..more });
    holds("more with updates", Bounds { refusals: 1, updater: true, ..more });
    holds("more with a reader", Bounds { refusals: 1, reader: true, ..more });
}
