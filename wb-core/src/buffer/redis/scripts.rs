//! The scripts, one file a verb (`step.lua` is what the verbs that finish an epoch share); used only where the server
//! must decide.

use redis::Script;

/// Records a script call handles at most: some 5 µs each, so that Redis never stalls for more than about 1 ms.
pub(super) const MAX_RECORDS: usize = 200;

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) rotate: Script,
    pub(super) ack: Script,
    pub(super) back: Script,
    pub(super) bury: Script,
    pub(super) fill: Script,
    pub(super) take: Script,
    pub(super) release: Script,
    pub(super) status: Script,
    pub(super) topology: Script,
    pub(super) beat: Script,
    pub(super) adopt: Script,
    pub(super) forget: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            rotate: Script::new(include_str!("lua/rotate.lua")),
            ack: Script::new(concat!(include_str!("lua/step.lua"), include_str!("lua/ack.lua"))),
            back: Script::new(concat!(include_str!("lua/step.lua"), include_str!("lua/back.lua"))),
            bury: Script::new(concat!(include_str!("lua/step.lua"), include_str!("lua/bury.lua"))),
            fill: Script::new(include_str!("lua/fill.lua")),
            take: Script::new(include_str!("lua/take.lua")),
            release: Script::new(include_str!("lua/release.lua")),
            status: Script::new(include_str!("lua/status.lua")),
            topology: Script::new(include_str!("lua/topology.lua")),
            beat: Script::new(include_str!("lua/beat.lua")),
            adopt: Script::new(include_str!("lua/adopt.lua")),
            forget: Script::new(include_str!("lua/forget.lua")),
        }
    }
}
