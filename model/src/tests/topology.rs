//! Changes of topology: they hold, and not without any one of their pieces.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use crate::topology::{Change, DRAINS, OPENS, P1, P3, P9, Piece};

#[test]
fn a_change_of_topology_holds() {
    let checker = Change { without: None }.checker().threads(2).spawn_bfs().join();
    println!("topology: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// The steps of the shortest counterexample.
fn breaks(piece: Piece, promise: &'static str) -> usize {
    let until = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let checker = Change { without: Some(piece) }.checker().finish_when(until).spawn_bfs().join();
    let Some(mut found) = checker.discovery(promise).map(stateright::Path::into_actions) else {
        panic!("{promise:?} holds without {piece:?}")
    };
    // The checker tells of the last bad state in a block: shorter ways are looked for. It stops short of this depth, and a
    // way of n steps has depth n + 1.
    loop {
        let until = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
        let change = Change { without: Some(piece) };
        let checker = change.checker().finish_when(until).target_max_depth(found.len() + 1).spawn_bfs().join();
        let Some(shorter) = checker.discovery(promise) else { break };
        found = shorter.into_actions();
    }
    println!("| {piece:?} | {promise} | {} | {found:?}", found.len());
    found.len()
}

macro_rules! without {
    ($($name:ident: $piece:ident, $promise:expr, $steps:expr;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(breaks(Piece::$piece, $promise), $steps);
        })*
    };
}

without! {
    without_one_step_p1_breaks: OneStep, P1, 4;
    without_names_p3_breaks: Names, P3, 8;
    without_a_seal_p1_breaks: Seal, P1, 3;
    without_a_seal_p9_breaks: Seal, P9, 3;
    without_a_look_of_rotate_p1_breaks: RotateLooks, P1, 4;
    without_letters_p1_breaks: Letters, P1, 5;
    without_letters_p3_breaks: Letters, P3, 13;
    without_loads_that_look_p9_breaks: LoadsLook, P9, 10;
    without_forgetting_p9_breaks: Forget, P9, 8;
    without_rotations_that_seal_a_change_starves: RotateSeals, DRAINS, 4;
    without_a_way_back_p1_breaks: BackOpens, P1, 4;
    without_a_look_of_cancel_p1_breaks: CancelLooks, P1, 5;
    without_an_end_of_the_mark_it_stays_closed: MarkEnds, OPENS, 2;
    without_a_look_for_seals_it_stays_closed: LooksOpen, OPENS, 3;
}
