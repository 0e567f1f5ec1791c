//! Programs of two shapes over one Redis: an old one (v1), whose struct knows the column `a`, and a newer one (v2), which
//! knows `note` too. Each of them is a client that reads and changes one key, and a worker that flushes it.
//!
//! What is promised ([`NOTE`]): the `note` that v2 wrote last is never lost, but by a full put of v1, which replaces the
//! record. Each [`Mechanism`] that is taken away loses one.
//!
//! What is atomic in reality is one step: the look into the buffer with its load token (a script compares the copy that it
//! replaces), the load, the fill, the look at the list of shapes, the compare-and-set, the steps of a worker. How records
//! move, and what leases and fences are for, is [the other model](crate).
//!
//! # What is left out
//!
//! - *A process that ends between a loss and its next look at the list*, a second at most, when nobody else knows its shape:
//!   [`Action::Stop`] of v2 and [`Action::Restart`] of v1 keep to that. Somebody who knows the newer shape survives a loss.
//! - *A loss right after a newer program's first start*, before the old one has looked ([`Action::Lose`]): a second at most.
//! - *Old states that were written before the newer program was first known*: they have the defaults of their fields, as
//!   the README says.

mod state;
mod steps;

pub use state::{Bounds, Client, Copy, Cycle, Old, Program, Record, Redis, Row, State};

use stateright::{Model, Property};

/// The `note` that v2 wrote last is what a reader of all places finds.
pub const NOTE: &str = "no note of the newer program is lost";

const OUTDATED: &str = "the old program meets a state that it may not build on";
const HELD: &str = "the old worker leaves a record alone";
const FLUSHED_AFTER_LOSS: &str = "a note that was written after a loss reaches the row";

/// A piece of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mechanism {
    /// A loaded copy says who loaded it. Without it, it looks like one that was written.
    Tag,
    /// Whether a state may be built on is asked of what stands. Without it, only in the round that loads it.
    OfWhatStands,
    /// Before an old program builds on a loaded state it looks at the list. Without it, it relies on its last look.
    LookBeforeChange,
    /// A program is on the list before it writes. Without it, it comes onto it later.
    RegisterFirst,
    /// A worker looks at the list after it has closed an epoch. Without it, it relies on its last look.
    LookAfterRotation,
    /// While the list is young, records with fields that nobody explains are left alone.
    HoldWhileYoung,
    /// While the list is young, a program that has seen no other builds on no loaded state.
    WaitWhileYoung,
    /// Who finds the list lost tells all that it has seen of it. Without it, only its own shape.
    Memory,
}

/// The protocol, or what is left of it.
#[derive(Clone, Copy, Debug)]
pub struct Shapes {
    /// How much may happen.
    pub bounds: Bounds,
    /// What is taken away.
    pub without: Option<Mechanism>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// v2 starts, for the first time or again.
    Start,
    /// v2 ends.
    Stop,
    /// The old process ends, and another one takes its place that knows nothing.
    Restart,
    /// A full put.
    Put(Program),
    /// A client finds what stands; where that is nothing that it can use, it leaves a token.
    Find(Program),
    /// It asks the sink.
    Load(Program),
    /// It fills in what it has loaded.
    Fill(Program),
    /// It asks whether it may build on what it found.
    Judge(Program),
    /// Compare-and-set.
    Swap(Program),
    /// The client was a reader, or is dropped.
    GiveUp(Program),
    /// The look at the list, once a second.
    Look(Program),
    /// A worker closes the open epoch.
    Rotate(Program),
    /// It decides whether it flushes the record.
    Claim(Program),
    /// The sink commits.
    Commit,
    /// The record leaves the buffer.
    Ack,
    /// The clean copy expires.
    Expire,
    /// Redis is emptied.
    Lose,
    /// The list is young no more: every process that is alive has looked since it was begun.
    Ripen,
}

impl Model for Shapes {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(&self.bounds)]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Start, Action::Stop, Action::Restart, Action::Commit, Action::Ack, Action::Expire]);
        actions.extend([Action::Lose, Action::Ripen]);
        for program in [Program::V1, Program::V2] {
            let of = [
                Action::Put,
                Action::Find,
                Action::Load,
                Action::Fill,
                Action::Judge,
                Action::Swap,
                Action::GiveUp,
                Action::Look,
                Action::Rotate,
                Action::Claim,
            ];
            actions.extend(of.map(|action| action(program)));
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = *before;
        self.step(&mut state, action)?;
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTE, |_, state: &State| {
                state.written.is_none_or(|note| state.redis.note().unwrap_or(state.row.note) == note)
            }),
            Property::sometimes(OUTDATED, |_, state: &State| {
                let stands = |copy| copy == state.redis.copy;
                matches!(state.client_v1, Client::Found(_, copy @ Copy::Loaded(Program::V1, _), false) if stands(copy))
                    && state.old.knows_v2
            }),
            Property::sometimes(HELD, |_, state: &State| {
                // A worker that leaves a record alone leaves it as the copy too.
                let open = state.redis.open.filter(|open| open.note.is_some());
                open.is_some_and(|open| state.redis.copy == Copy::Written(open))
            }),
            Property::sometimes(FLUSHED_AFTER_LOSS, |shapes: &Self, state: &State| {
                shapes.bounds.losses > state.left.losses
                    && state.left.notes == 0
                    && state.row.note == shapes.bounds.notes
            }),
        ]
    }
}
