//! The scripts, one file a verb (`step.lua` is what the verbs that finish an epoch share); used only where the server
//! must decide.

use redis::Script;

use super::swap;

/// Records a script call handles at most: some 5 µs each, so that Redis never stalls for more than about 1 ms.
pub(super) const MAX_RECORDS: usize = 200;

/// Leases that a script call renews at most, some 2 µs each. On a cluster this would be 1: partitions are in different
/// slots there, and nothing else about renewing would change.
pub(super) const MAX_LEASES: usize = 256;

/// The script of a transaction; it leaves on the connection of the writes, which loads it when the server does not know it.
pub(super) const TRANSACT: &str = concat!(include_str!("lua/tie.lua"), include_str!("lua/transact.lua"));

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) pending: Script,
    pub(super) rotate: Script,
    pub(super) rotate_all: Script,
    pub(super) ack: Script,
    pub(super) back: Script,
    pub(super) bury: Script,
    pub(super) transact: Script,
    pub(super) get_together: Script,
    pub(super) back_unit: Script,
    pub(super) bury_unit: Script,
    pub(super) trim: Script,
    pub(super) replay: Script,
    pub(super) discard: Script,
    pub(super) fill: Script,
    pub(super) take: Script,
    pub(super) heartbeat: Script,
    pub(super) renew: Script,
    pub(super) retire: Script,
    pub(super) release: Script,
    pub(super) status: Script,
    pub(super) topology: Script,
    pub(super) beat: Script,
    pub(super) adopt: Script,
    pub(super) forget: Script,
    pub(super) look: Script,
    pub(super) swap: Script,
    pub(super) shapes: Script,
    pub(super) ids: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            pending: Script::new(include_str!("lua/pending.lua")),
            rotate: Script::new(include_str!("lua/rotate.lua")),
            rotate_all: Script::new(include_str!("lua/rotate_all.lua")),
            ack: Script::new(concat!(include_str!("lua/step.lua"), include_str!("lua/ack.lua"))),
            back: Script::new(concat!(include_str!("lua/step.lua"), include_str!("lua/back.lua"))),
            bury: Script::new(concat!(include_str!("lua/step.lua"), include_str!("lua/bury.lua"))),
            transact: Script::new(TRANSACT),
            get_together: Script::new(include_str!("lua/get_together.lua")),
            back_unit: Script::new(concat!(
                include_str!("lua/tie.lua"),
                include_str!("lua/unit.lua"),
                include_str!("lua/back_unit.lua")
            )),
            bury_unit: Script::new(concat!(include_str!("lua/unit.lua"), include_str!("lua/bury_unit.lua"))),
            trim: Script::new(concat!(include_str!("lua/step.lua"), include_str!("lua/trim.lua"))),
            replay: Script::new(include_str!("lua/replay.lua")),
            discard: Script::new(include_str!("lua/discard.lua")),
            fill: Script::new(include_str!("lua/fill.lua")),
            heartbeat: Script::new(include_str!("lua/heartbeat.lua")),
            renew: Script::new(include_str!("lua/renew.lua")),
            retire: Script::new(include_str!("lua/retire.lua")),
            take: Script::new(include_str!("lua/take.lua")),
            release: Script::new(include_str!("lua/release.lua")),
            status: Script::new(include_str!("lua/status.lua")),
            topology: Script::new(include_str!("lua/topology.lua")),
            beat: Script::new(include_str!("lua/beat.lua")),
            adopt: Script::new(include_str!("lua/adopt.lua")),
            forget: Script::new(include_str!("lua/forget.lua")),
            look: Script::new(include_str!("lua/look.lua")),
            swap: Script::new(swap::TEXT),
            shapes: Script::new(include_str!("lua/shapes.lua")),
            ids: Script::new(include_str!("lua/ids.lua")),
        }
    }
}
