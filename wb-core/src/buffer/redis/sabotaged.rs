//! Verbs with a mechanism taken out, to see the promise break that rests on it. Nothing here is reached where
//! [`Sabotage`] can only be none, which is everywhere but in tests.

use std::sync::Arc;

use bytes::Bytes;
use redis::{Pipeline, Script};

use super::keys::PartitionKeys;
use super::scripts::Scripts;
use super::space::RedisSpace;
use crate::buffer::Lookup;
use crate::buffer::record::{Record, Write};
use crate::entity::key::Id;
use crate::error::buffer::BufferError;
use crate::fault::mechanism::{Mechanism, Sabotage};

/// Life of what is dirty, in milliseconds, where it has one.
const DIRTY_TTL: u64 = 60_000;

/// A write that knows nothing of epochs: it replaces its key where it finds it.
const PUT_ANYWHERE: &str = "
local home = KEYS[1]
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then home = KEYS[2] end
return redis.call('HSET', home, ARGV[1], ARGV[2])
";

/// Stands between what the finishing scripts share and each of them: the check of lease and epoch says yes.
const HOLDS_ANYTHING: &str = "local function holds() return true end\n";

/// Stands between what the scripts on seals share and each of them: nothing is closed for writes.
const SEALS_NOTHING: &str = "local function seal() end\n";

/// Stands between what the scripts on leases share and each of them: a lease is evictable.
const MORTAL_LEASE: &str = "
local keep = hold
local function hold(meta, owner, ends)
  keep(meta, owner, ends)
  redis.call('PEXPIRE', meta, 60000)
end
";

/// How what is missing of a closed epoch is counted begins.
const COUNTS: &str = "local function gone(meta, flushing, entries)";

impl Scripts {
    /// The same scripts without what `sabotage` takes out.
    pub(super) fn without(self: Arc<Self>, sabotage: Sabotage) -> Arc<Self> {
        if sabotage == Sabotage::none() {
            return self;
        }
        let lease = include_str!("lua/lease.lua");
        let seal = include_str!("lua/seal.lua");
        let open = if sabotage.lacks(Mechanism::Seal) { SEALS_NOTHING } else { "" };
        let sealing = |verbs: &[&str]| Script::new(&format!("{lease}{seal}{open}{}", verbs.concat()));
        let closed = include_str!("lua/closed.lua");
        let uncounted = closed.replace(COUNTS, &format!("{COUNTS} do return 0 end"));
        let closed = if sabotage.lacks(Mechanism::VanishedCounts) { uncounted.as_str() } else { closed };
        let step = format!("{lease}{seal}{closed}{}", include_str!("lua/step.lua"));
        let mortal = if sabotage.lacks(Mechanism::LeaseWithoutTtl) { MORTAL_LEASE } else { "" };
        let holding = |verb: &str| Script::new(&format!("{lease}{mortal}{verb}"));
        let check = if sabotage.lacks(Mechanism::AckCheck) { HOLDS_ANYTHING } else { "" };
        let finishing = |verb: &str| Script::new(&format!("{step}{check}{verb}"));
        let back = include_str!("lua/back.lua");
        let topology = include_str!("lua/topology.lua");
        let unsealed = topology.replace("redis.call('SET', KEYS[first", "tostring(KEYS[first");
        let pending = include_str!("lua/pending.lua");
        let together = pending.replace("redis.pcall(k < hashes", "redis.call(k < hashes");
        let trim = include_str!("lua/trim.lua");
        let trims_anything = trim.replace("return trimmed == from", "return true");
        let overwrites = back.replace("'HSETNX'", "'HSET'");
        Arc::new(Self {
            pending: sealing(&[if sabotage.lacks(Mechanism::PartitionsApart) { &together } else { pending }]),
            ack: finishing(include_str!("lua/ack.lua")),
            ack_stale: finishing(concat!(include_str!("lua/marks.lua"), include_str!("lua/ack_stale.lua"))),
            back: finishing(if sabotage.lacks(Mechanism::BackIfAbsent) { &overwrites } else { back }),
            bury: finishing(include_str!("lua/bury.lua")),
            trim: finishing(if sabotage.lacks(Mechanism::AckCheck) { &trims_anything } else { trim }),
            take: holding(include_str!("lua/take.lua")),
            renew: holding(include_str!("lua/renew.lua")),
            rotate: sealing(&[closed, include_str!("lua/rotate.lua")]),
            rotate_all: sealing(&[closed, include_str!("lua/rotate_all.lua")]),
            status: sealing(&[closed, include_str!("lua/status.lua")]),
            look: sealing(&[closed, include_str!("lua/look.lua")]),
            leave: sealing(&[include_str!("lua/leave.lua")]),
            topology: Script::new(if sabotage.lacks(Mechanism::Seal) { &unsealed } else { topology }),
            ..Self::new()
        })
    }
}

impl RedisSpace {
    /// Into the closed epoch where the key is there, or into an `open` that expires.
    pub(super) async fn put_sabotaged(&self, writes: Vec<Write>) -> Result<(), BufferError> {
        let doing = "cannot put a record";
        for write in writes {
            let keys = self.shelf.keys(write.partition)?;
            if self.sabotage.lacks(Mechanism::ClosedEpochs) {
                let script = Script::new(PUT_ANYWHERE);
                let mut call = script.prepare_invoke();
                call.key(&keys.open).key(&keys.flushing).arg(write.id.as_bytes()).arg(write.record.as_bytes());
                self.run::<u64>(doing, &call).await?;
            } else {
                let mut pipeline = Pipeline::with_capacity(2);
                pipeline.cmd("HSET").arg(&keys.open).arg(write.id.as_bytes()).arg(write.record.as_bytes());
                pipeline.cmd("PEXPIRE").arg(&keys.open).arg(DIRTY_TTL);
                self.query::<(u64, u64)>(doing, &pipeline).await?;
            }
        }
        Ok(())
    }

    /// Clean copy, `flushing`, `open`: towards the records that move, which pass unseen.
    pub(super) async fn get_sabotaged(&self, keys: &PartitionKeys, ids: &[Id]) -> Result<Vec<Lookup>, BufferError> {
        let mut pipeline = Pipeline::with_capacity(3);
        pipeline.cmd("MGET");
        for id in ids {
            pipeline.arg(keys.copy(id));
        }
        for hash in [&keys.flushing, &keys.open] {
            pipeline.cmd("HMGET").arg(hash);
            for id in ids {
                pipeline.arg(id.as_bytes());
            }
        }
        type Values = Vec<Option<Bytes>>;
        let (copies, flushing, open): (Values, Values, Values) = self.query("cannot get records", &pipeline).await?;
        let dirty = open.into_iter().zip(flushing).map(|(open, flushing)| open.or(flushing));
        let found = dirty.zip(copies).map(|(dirty, copy)| match (dirty, copy) {
            (Some(bytes), _) => Lookup::Dirty(Record::from_bytes(bytes)),
            (None, Some(copy)) => Lookup::of_copy(copy),
            (None, None) => Lookup::Absent,
        });
        Ok(found.collect())
    }
}
