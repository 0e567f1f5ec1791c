//! The promises, as properties of states.

use stateright::Property;

use crate::buffer::Copy;
use crate::protocol::Protocol;
use crate::state::{Breach, Ghost, State};
use crate::worker::{Cycle, Term, Who};

/// The last acknowledged write is dirty, a dead letter, or the row.
pub const P1: &str = "P1 no acknowledged write is lost";
/// No state overwrites a newer one.
pub const P3: &str = "P3 the sink never goes back";
/// The sink commits nothing of an older generation.
pub const P3_STALE: &str = "P3 a worker of an older generation changes nothing";
/// What an ack removes from the buffer is what its worker has written.
pub const P4: &str = "P4 a finished flush never clears a newer write";
/// When nothing is dirty, the row is what the last operation left.
pub const P5: &str = "P5 the last operation wins, deletes included";
/// An update replaces the state that it was computed from, and no other.
pub const P5_UPDATE: &str = "P5 an update is computed from the latest state";
/// A dead letter that nothing supersedes can be read.
pub const P8: &str = "P8 a dead letter stays readable";
/// A read sees what was acknowledged before it began.
pub const P9: &str = "P9 a read sees the writes before it";

// What the model must be able to reach, so that it is not true of nothing.
const FLUSHED: &str = "everything is flushed";
const CAME_BACK: &str = "a refused record is open again";
const BURIED: &str = "a record is a dead letter";
const OVERTAKEN: &str = "a worker that was overtaken is about to write";
const LEFT_BEHIND: &str = "an owner finds an epoch that another one has closed";
const UNKNOWN_END: &str = "a batch is tried again while its first try may still commit";

pub(crate) fn all(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        Property::always(P1, |_, state: &State| {
            let Ghost { acknowledged, forgiven, .. } = state.ghost;
            acknowledged == forgiven || state.latest() == acknowledged
        }),
        Property::always(P3, |_, state: &State| !state.ghost.has(Breach::WentBack)),
        Property::always(P3_STALE, |_, state: &State| !state.ghost.has(Breach::StaleCommit)),
        Property::always(P4, |_, state: &State| !state.ghost.has(Breach::ClearedNewer)),
        Property::always(P5, |_, state: &State| {
            let Ghost { acknowledged, forgiven, .. } = state.ghost;
            acknowledged == forgiven || state.buffer.latest().is_some() || state.sink.row == acknowledged
        }),
        Property::always(P8, |_, state: &State| {
            let buffer = &state.buffer;
            let superseded = buffer.open.is_some() || buffer.flushing.is_some();
            buffer.dead.is_none_or(|dead| superseded || buffer.copy == Copy::Pinned(dead))
        }),
    ];
    if protocol.bounds.reader {
        properties.push(Property::always(P9, |_, state: &State| !state.ghost.has(Breach::StaleRead)));
    }
    if protocol.bounds.updater {
        properties.push(Property::always(P5_UPDATE, |_, state: &State| !state.ghost.has(Breach::LostUpdate)));
    }
    properties.push(Property::sometimes(FLUSHED, |protocol: &Protocol, state| {
        state.ghost.acknowledged.0 == protocol.bounds.writes
            && state.buffer.latest().is_none()
            && state.sink.row == state.ghost.acknowledged
    }));
    if protocol.bounds.refusals > 0 {
        properties.push(Property::sometimes(CAME_BACK, |_, state: &State| {
            state.buffer.open.is_some() && state.buffer.copy == state.buffer.open.map_or(Copy::Absent, Copy::Pinned)
        }));
        properties.push(Property::sometimes(BURIED, |_, state: &State| state.buffer.dead.is_some()));
    }
    properties.push(Property::sometimes(OVERTAKEN, |_, state: &State| {
        let stale = |cycle| matches!(cycle, Cycle::Claimed(claim) if claim.right < state.sink.generation);
        Who::ALL.into_iter().any(|who| stale(state.worker(who).cycle)) && state.sink.row.0 > 1
    }));
    properties.push(Property::sometimes(LEFT_BEHIND, |_, state: &State| {
        let right = |who: Who| matches!(state.worker(who).term, Term::Right(right) if right == state.sink.generation);
        let claimed = |who: Who| matches!(state.worker(who).cycle, Cycle::Claimed(_));
        Who::ALL.into_iter().any(|who| right(who) && claimed(who) && claimed(who.other()))
    }));
    if protocol.bounds.orphans {
        properties.push(Property::sometimes(UNKNOWN_END, |_, state: &State| {
            let again = |cycle| matches!(cycle, Cycle::Claimed(claim) if Some(claim.batch()) == state.sink.orphan);
            Who::ALL.into_iter().any(|who| again(state.worker(who).cycle))
        }));
    }
    properties
}
