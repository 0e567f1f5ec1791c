mod holds;
mod loss;
mod shapes;
mod topology;
mod without;

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{Action, Bounds, Mechanism, Protocol, Without};

/// Two workers; all that happens in Redis and in the sink.
const WORKERS: Bounds = Bounds {
    writes: 2,
    refusals: 1,
    generations: None,
    losses: 0,
    orphans: true,
    reader: false,
    updater: false,
    copies: true,
    stamps: false,
};

/// Two workers and a reader.
const READER: Bounds = Bounds { orphans: false, reader: true, ..WORKERS };

/// Two workers and an updater. An update needs a third write to be lost under.
const UPDATER: Bounds = Bounds { orphans: false, updater: true, refusals: 0, writes: 3, ..WORKERS };

/// Two workers, and a Redis that loses data once.
const LOSS: Bounds = Bounds { losses: 1, orphans: false, refusals: 0, copies: false, ..WORKERS };

/// Explores everything, or until a promise is broken.
fn explore(what: &str, protocol: Protocol) -> impl Checker<Protocol> {
    run(what, protocol, HasDiscoveries::AnyFailures)
}

/// Explores everything, whatever is broken on the way.
fn explore_all(what: &str, protocol: Protocol) -> impl Checker<Protocol> {
    run(what, protocol, HasDiscoveries::All)
}

fn run(what: &str, protocol: Protocol, until: HasDiscoveries) -> impl Checker<Protocol> {
    let begun = Instant::now();
    let checker = protocol.checker().threads(2).finish_when(until).spawn_bfs().join();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{what}: {states} states, {steps} steps, depth {depth}, {:.1} s", begun.elapsed().as_secs_f64());
    checker
}

/// The shortest way to break a promise.
fn counterexample(what: &str, protocol: Protocol, promise: &'static str) -> Option<Vec<Action>> {
    let begun = Instant::now();
    let mut shortest: Option<Vec<Action>> = None;
    let mut states = 0;
    loop {
        let mut checker = protocol.checker().finish_when(HasDiscoveries::AnyOf(BTreeSet::from([promise])));
        if let Some(found) = &shortest {
            // The checker looks at states in blocks, and tells of the last bad one in a block: shorter ways are looked
            // for. It stops short of this depth, and a way of n steps has depth n + 1.
            checker = checker.target_max_depth(found.len() + 1);
        }
        let checker = checker.spawn_bfs().join();
        states += checker.unique_state_count();
        let Some(found) = checker.discovery(promise) else { break };
        shortest = Some(found.into_actions());
    }
    let seconds = begun.elapsed().as_secs_f64();
    match &shortest {
        Some(steps) => {
            println!("| {what} | {promise} | {} | {states} states, {seconds:.1} s\n  {steps:?}", steps.len());
        }
        None => println!("{what}: {promise} holds in {states} states, {seconds:.1} s"),
    }
    shortest
}
