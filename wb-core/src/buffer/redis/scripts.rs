//! The scripts, one file a verb (`lease.lua`, `seal.lua`, `closed.lua`, `step.lua`, `unit.lua`, `tie.lua`, `copy.lua` and
//! `run.lua` are what several verbs share); used only
//! where the server must decide.

use redis::Script;

use crate::buffer::redis::write::compare_and_set;

/// Records a script call handles at most: some 5 µs each, so that Redis never stalls for more than about 1 ms.
pub(super) const MAX_RECORDS: usize = 200;

/// Leases that a script call renews at most, some 3 µs each. On a cluster this would be 1: partitions are in different
/// slots there, and nothing else about renewing would change.
pub(super) const MAX_LEASES: usize = 256;

/// The script of a transaction; it leaves on the connection of the writes, which loads it when the server does not know it.
pub(super) const TRANSACT: &str =
    concat!(include_str!("lua/tie.lua"), include_str!("lua/copy.lua"), include_str!("lua/transact.lua"));

/// One script of these files.
macro_rules! script {
    ($($file:literal),+) => {
        Script::new(concat!($(include_str!(concat!("lua/", $file, ".lua"))),+))
    };
}

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) pending: Script,
    pub(super) rotate: Script,
    pub(super) rotate_all: Script,
    pub(super) ack: Script,
    pub(super) copies: Script,
    pub(super) ack_stale: Script,
    pub(super) back: Script,
    pub(super) bury: Script,
    pub(super) transact: Script,
    pub(super) get_together: Script,
    pub(super) back_unit: Script,
    pub(super) bury_unit: Script,
    pub(super) trim: Script,
    pub(super) replay: Script,
    pub(super) replay_unit: Script,
    pub(super) unit_letters: Script,
    pub(super) discard: Script,
    pub(super) token: Script,
    pub(super) fill: Script,
    pub(super) take: Script,
    pub(super) heartbeat: Script,
    pub(super) renew: Script,
    pub(super) retire: Script,
    pub(super) release: Script,
    pub(super) status: Script,
    pub(super) topology: Script,
    pub(super) leave: Script,
    pub(super) leftovers: Script,
    pub(super) beat: Script,
    pub(super) adopt: Script,
    pub(super) forget: Script,
    pub(super) look: Script,
    pub(super) swap: Script,
    pub(super) weigh: Script,
    pub(super) read_log: Script,
    pub(super) shapes: Script,
    pub(super) ids: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            pending: script!("seal", "pending"),
            rotate: script!("lease", "seal", "closed", "rotate"),
            rotate_all: script!("lease", "seal", "closed", "rotate_all"),
            ack: script!("lease", "seal", "closed", "step", "ack"),
            copies: script!("copy", "copies"),
            ack_stale: script!("lease", "seal", "closed", "step", "marks", "ack_stale"),
            back: script!("lease", "seal", "closed", "step", "back"),
            bury: script!("lease", "seal", "closed", "step", "bury"),
            transact: Script::new(TRANSACT),
            get_together: script!("seal", "copy", "get_together"),
            back_unit: script!("tie", "lease", "seal", "closed", "unit", "back_unit"),
            bury_unit: script!("lease", "seal", "closed", "unit", "bury_unit"),
            trim: script!("lease", "seal", "closed", "step", "trim"),
            replay: script!("replay"),
            replay_unit: script!("tie", "replay_unit"),
            unit_letters: script!("unit_letters"),
            discard: script!("marks", "discard"),
            token: script!("seal", "copy", "token"),
            fill: script!("seal", "copy", "fill"),
            heartbeat: script!("heartbeat"),
            renew: script!("lease", "renew"),
            retire: script!("retire"),
            take: script!("lease", "take"),
            release: script!("release"),
            status: script!("seal", "closed", "status"),
            topology: script!("topology"),
            leave: script!("seal", "leave"),
            leftovers: script!("leftovers"),
            beat: script!("run", "beat"),
            adopt: script!("adopt"),
            forget: script!("forget"),
            look: script!("seal", "closed", "look"),
            swap: Script::new(compare_and_set::TEXT),
            weigh: Script::new(include_str!("lua/weigh.lua")),
            read_log: Script::new(include_str!("lua/read_log.lua")),
            shapes: script!("run", "shapes"),
            ids: script!("run", "ids"),
        }
    }
}
