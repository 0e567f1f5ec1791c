//! Programs of two shapes.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use crate::shapes::{Action, Bounds, Mechanism, NOTE, Shapes};

/// No loss.
const DEPLOY: Bounds = Bounds { writes: 3, notes: 1, old_puts: 1, restarts: 0, losses: 0 };
/// Redis is emptied once.
const LOSS: Bounds = Bounds { writes: 2, notes: 1, old_puts: 0, restarts: 1, losses: 1 };

fn holds(what: &str, bounds: Bounds) -> impl Checker<Shapes> {
    let checker = Shapes { bounds, without: None }.checker().threads(2).spawn_bfs().join();
    println!("{what}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker
}

#[test]
fn the_protocol_of_two_shapes_holds() {
    holds("deploy", DEPLOY).assert_no_discovery(NOTE);
    holds("loss", LOSS).assert_properties();
}

#[test]
#[ignore = "a minute"]
fn the_protocol_of_two_shapes_holds_for_four_writes_and_two_losses() {
    holds("more", Bounds { writes: 4, notes: 2, old_puts: 1, restarts: 2, losses: 2 }).assert_properties();
}

/// The shortest way to lose a note.
fn breaks(mechanism: Mechanism, bounds: Bounds) -> usize {
    let shapes = Shapes { bounds, without: Some(mechanism) };
    let mut shortest: Option<Vec<Action>> = None;
    loop {
        let mut checker = shapes.checker().finish_when(HasDiscoveries::AnyOf(BTreeSet::from([NOTE])));
        if let Some(found) = &shortest {
            // See `counterexample`.
            checker = checker.target_max_depth(found.len() + 1);
        }
        let Some(found) = checker.spawn_bfs().join().discovery(NOTE) else { break };
        let found = found.into_actions();
        if shortest.as_ref().is_some_and(|shortest| shortest.len() <= found.len()) {
            break;
        }
        shortest = Some(found);
    }
    let shortest = shortest.unwrap_or_else(|| panic!("no note is lost without {mechanism:?}"));
    println!("| {mechanism:?} | {} | {shortest:?}", shortest.len());
    shortest.len()
}

macro_rules! without {
    ($($name:ident: $mechanism:ident, $bounds:expr, $steps:expr;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(breaks(Mechanism::$mechanism, $bounds), $steps);
        })*
    };
}

without! {
    without_the_tag_a_note_is_lost: Tag, DEPLOY, 13;
    without_a_judgement_of_what_stands_a_note_is_lost: OfWhatStands, DEPLOY, 17;
    without_a_look_before_a_change_a_note_is_lost: LookBeforeChange, DEPLOY, 15;
    without_registration_before_the_first_write_a_note_is_lost: RegisterFirst, DEPLOY, 6;
    without_a_look_after_the_rotation_a_note_is_lost: LookAfterRotation, DEPLOY, 6;
    without_holding_while_the_list_is_young_a_note_is_lost: HoldWhileYoung, LOSS, 9;
    without_waiting_while_the_list_is_young_a_note_is_lost: WaitWhileYoung, LOSS, 16;
    without_telling_what_was_seen_a_note_is_lost: Memory, LOSS, 20;
}
