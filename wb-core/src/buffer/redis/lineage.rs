//! Notices a Redis that went back or was emptied.
//!
//! A hash of the entity says whose data this is: a lineage, the run of the server that has it, and a beat that every process of
//! the entity raises each second. It is none of a partition's keys, so that no partition can break more than itself. A process remembers what it saw last. Data that were lost come
//! back with an earlier beat, or with none. (One server has one past; in a cluster each node would need a beat of its own.)

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use redis::RedisError;

use super::classify::classify;
use super::connection::{Connection, Pinned};
use super::scripts::Scripts;
use super::{keys, marker};
use crate::buffer::Lineage;
use crate::buffer::redis::clean_copies::{Copies, forget};
use crate::buffer::redis::server_info;
use crate::error::buffer::BufferError;
use crate::telemetry::scope::Scope;

/// What stands in Redis, or what a process saw there last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    lineage: String,
    run: String,
    replid: String,
    /// The beat at which this run took the data over.
    base: u64,
    beat: u64,
    beat_ms: u64,
    /// The run that had the data before.
    run_before: String,
    /// Whether this run took over everything that the one before it had acknowledged.
    whole: bool,
    /// Whether this run has each write on disk before its answer, as far as was known when it took over.
    synced: bool,
}

/// The server that answers.
#[derive(Clone, Debug, Default)]
struct Server {
    /// The name of the run: one more whenever the data of another server took the place of its own.
    run: String,
    run_id: String,
    replid: String,
    /// What it was a replica of before it was promoted.
    replid_before: String,
    aof: bool,
}

/// What a look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing was ever there.
    New,
    /// The data that are known.
    Same,
    /// Another run of the server; every beat that is known is there. What was acknowledged after the last of them may not be.
    Restarted {
        /// Somebody else has drawn the consequences for the data. What this process has acknowledged is its own to judge.
        handled: bool,
    },
    /// Beats are missing.
    WentBack { handled: bool },
    /// Everything is missing.
    Emptied,
}

/// Compares what this process saw last, what is stored, and who has it.
fn judge(seen: Option<&Mark>, stored: Option<&Mark>, run: &str) -> Verdict {
    let (seen, stored) = match (seen, stored) {
        (None, None) => return Verdict::New,
        (Some(_), None) => return Verdict::Emptied,
        (None, Some(stored)) if stored.run == run => return Verdict::Same,
        (None, Some(_)) => return Verdict::Restarted { handled: false },
        (Some(seen), Some(stored)) => (seen, stored),
    };
    // Whoever writes this run down has dropped the copies before.
    let handled = stored.run == run;
    if stored.lineage != seen.lineage {
        return Verdict::WentBack { handled };
    }
    // What this run began with; beats raised since say nothing about what was lost before.
    let inherited = if handled && seen.run != run { stored.base } else { stored.beat };
    match (inherited >= seen.beat, seen.run == run && handled) {
        (false, _) => Verdict::WentBack { handled: false },
        (true, true) => Verdict::Same,
        (true, false) => Verdict::Restarted { handled },
    }
}

/// The memory of one process about one entity.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Mutex<Option<Mark>>,
    /// What was found at start, or when a connection was made; told at the next look.
    found: Mutex<Option<Lineage>>,
    /// The server may not be asked who it is.
    nameless: AtomicBool,
    /// One look at a time: two would both draw the consequences.
    looking: tokio::sync::Mutex<()>,
}

type Reply = (bool, Facts, Vec<Option<String>>);
/// Run, run id, both replication ids, and whether there is an append-only file.
type Facts = (String, String, String, String, String);

impl Watch {
    /// The first look, before anything is served.
    pub(super) async fn begin(
        &self,
        connection: &Connection,
        scripts: &Scripts,
        scope: &Scope,
    ) -> Result<(), BufferError> {
        self.check(&current(connection).await?, scripts, scope).await
    }

    /// Looks whose data this connection leads to, and drops copies that may be stale; what it finds is told at the next look.
    pub(super) async fn check(&self, connection: &Pinned, scripts: &Scripts, scope: &Scope) -> Result<(), BufferError> {
        let _one = self.looking.lock().await;
        let new = self.look_at(connection, scripts, scope).await?;
        // That nothing was lost so far is no answer to who asks later.
        if !matches!(new, Lineage::Unwatched | Lineage::Unbroken) {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            *found = Some(found.take().map_or(new, |old| worse(old, new)));
        }
        Ok(())
    }

    /// What became of the data since the last look.
    pub(super) async fn look(
        &self,
        connection: &Connection,
        scripts: &Scripts,
        scope: &Scope,
    ) -> Result<Lineage, BufferError> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        match found {
            Some(found) => Ok(found),
            None => {
                let connection = current(connection).await?;
                let _one = self.looking.lock().await;
                self.look_at(&connection, scripts, scope).await
            }
        }
    }

    /// Whether the server does not say otherwise: who has a name says it itself.
    async fn is_run(&self, connection: &Pinned, run: &str) -> Result<bool, RedisError> {
        if self.nameless.load(Ordering::Acquire) { marker::stands(connection, run).await } else { Ok(true) }
    }

    fn seen(&self) -> Option<Mark> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, mark: Mark) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark);
    }

    async fn look_at(&self, connection: &Pinned, scripts: &Scripts, scope: &Scope) -> Result<Lineage, BufferError> {
        let failed = |error: RedisError| classify("cannot look whose data Redis has", error);
        let seen = self.seen();
        let mut call = scripts.beat.prepare_invoke();
        call.key(keys::lineage(scope));
        match &seen {
            // It raises no beat of a run that is over.
            Some(seen) if !self.is_run(connection, &seen.run).await.map_err(failed)? => call.arg("").arg("").arg(0),
            Some(seen) => call.arg(&seen.lineage).arg(&seen.run).arg(seen.beat),
            None => call.arg("").arg("").arg(0),
        };
        let (raised, server, stored): Reply = call.invoke_async(&mut connection.clone()).await.map_err(failed)?;
        let (mut server, stored) = (Server::from(server), mark(stored));
        self.nameless.store(server.run_id.is_empty(), Ordering::Release);
        if let (true, Some(stored)) = (raised, stored.clone()) {
            self.remember(stored);
            return Ok(Lineage::Unbroken);
        }
        let known = match &stored {
            Some(stored) => self.is_run(connection, &stored.run).await.map_err(failed)?,
            None => !server.run_id.is_empty(),
        };
        if !known {
            server.run = marker::fresh();
            marker::leave(connection, &server.run).await.map_err(failed)?;
        }
        let drop_copies = async || forget(connection, scope, Copies::WithTtl(&scripts.forget)).await.map_err(failed);
        let since = stored.as_ref().map(|stored| stored.beat_ms);
        let synced = server.aof && server_info::setting(connection, "appendfsync").await.as_deref() == Some("always");
        let mut whole = false;
        // Copies go before the run is written down: who finds it there relies on that.
        let (told, keeps_name) = match judge(seen.as_ref(), stored.as_ref(), &server.run) {
            Verdict::New => (Lineage::Unbroken, false),
            Verdict::Same => (Lineage::Unbroken, true),
            // Two things: the consequences for the data are drawn once, but each process has writes of its own that may
            // be lost, and knows only by the last beat that it saw itself.
            Verdict::Restarted { handled: true } => (restarted(seen.as_ref(), stored.as_ref()), true),
            Verdict::Restarted { handled: false } => {
                // Who has seen the last beat knows that it is there; with each write on disk before its answer,
                // everything after it is there too: in the run that ended, whatever this one does. Not so on a server that was
                // a replica.
                let replica = stored.as_ref().is_some_and(|stored| server.was_replica(stored));
                let was_synced = stored.as_ref().is_some_and(|stored| stored.synced);
                whole = seen.is_some() && was_synced && synced && !replica;
                match whole {
                    true => (Lineage::Restarted { since_ms: None, dropped: 0 }, true),
                    false => (Lineage::Restarted { since_ms: since, dropped: drop_copies().await? }, true),
                }
            }
            Verdict::WentBack { handled: true } => (Lineage::Broken { since_ms: None, dropped: 0 }, true),
            Verdict::WentBack { handled: false } => {
                (Lineage::Broken { since_ms: since, dropped: drop_copies().await? }, false)
            }
            Verdict::Emptied => (Lineage::Broken { since_ms: None, dropped: drop_copies().await? }, false),
        };
        let name = match &stored {
            Some(stored) if keeps_name => stored.lineage.clone(),
            _ => uuid::Uuid::new_v4().simple().to_string(),
        };
        let beat = stored.as_ref().map_or(0, |stored| stored.beat);
        let run_before = stored.as_ref().map(|stored| stored.run.clone()).unwrap_or_default();
        let next = Mark {
            lineage: name,
            run: server.run,
            replid: server.replid,
            base: beat,
            beat,
            beat_ms: 0,
            run_before,
            whole,
            synced,
        };
        self.adopt(connection, scripts, scope, stored, next).await.map_err(failed)?;
        Ok(told)
    }

    /// Writes down that this server has the data now; who comes second remembers what the first one wrote.
    async fn adopt(
        &self,
        connection: &Pinned,
        scripts: &Scripts,
        scope: &Scope,
        stored: Option<Mark>,
        next: Mark,
    ) -> Result<(), RedisError> {
        if let Some(stored) = stored.clone().filter(|stored| stored.lineage == next.lineage && stored.run == next.run) {
            self.remember(stored);
            return Ok(());
        }
        let (lineage, run) = stored.map_or_else(Default::default, |stored| (stored.lineage, stored.run));
        let mut call = scripts.adopt.prepare_invoke();
        call.key(keys::lineage(scope)).arg(lineage).arg(run);
        call.arg(&next.lineage).arg(&next.run).arg(&next.replid).arg(next.beat);
        call.arg(&next.run_before).arg(u8::from(next.whole)).arg(u8::from(next.synced));
        // Its own, or what somebody else has written down since.
        let found: Vec<Option<String>> = call.invoke_async(&mut connection.clone()).await?;
        if let Some(found) = mark(found) {
            self.remember(found);
        }
        Ok(())
    }
}

async fn current(connection: &Connection) -> Result<Pinned, BufferError> {
    connection.current().await.map_err(|error| classify("cannot look whose data Redis has", error))
}

/// Of two things that were found and not told yet, the one that says more was lost; the time is that of the first one.
fn worse(old: Lineage, new: Lineage) -> Lineage {
    let (dropped_before, since) = match old {
        Lineage::Broken { since_ms, dropped } | Lineage::Restarted { since_ms, dropped } => (dropped, since_ms),
        Lineage::Unwatched | Lineage::Unbroken => return new,
    };
    match (old, new) {
        (_, Lineage::Broken { since_ms, dropped }) => {
            Lineage::Broken { since_ms: since.or(since_ms), dropped: dropped + dropped_before }
        }
        (Lineage::Broken { since_ms, .. }, Lineage::Restarted { dropped, .. }) => {
            Lineage::Broken { since_ms, dropped: dropped + dropped_before }
        }
        (_, Lineage::Restarted { since_ms, dropped }) => {
            Lineage::Restarted { since_ms: since.or(since_ms), dropped: dropped + dropped_before }
        }
        (old, Lineage::Unwatched | Lineage::Unbroken) => old,
    }
}

impl From<Facts> for Server {
    fn from((run, run_id, replid, replid_before, aof): Facts) -> Self {
        Self { run, run_id, replid, replid_before, aof: aof == "1" }
    }
}

impl Server {
    /// Whether its data are, or may be, those that a replica had.
    fn was_replica(&self, stored: &Mark) -> bool {
        // The very same process, and another run: its data are another server's.
        stored.run.split('-').next() == Some(&self.run_id) || self.replid_before.bytes().any(|digit| digit != b'0')
    }
}

/// Reads the fields in the order in which the script gives them; `None` when nothing is stored, or nothing readable.
fn mark(fields: Vec<Option<String>>) -> Option<Mark> {
    let mut fields = fields.into_iter();
    let mut next = || fields.next().flatten();
    let (lineage, run, replid) = (next()?, next()?, next()?);
    let mut number = || next()?.parse().ok();
    let (base, beat, beat_ms) = (number()?, number()?, number()?);
    // Older programs do not write the last three.
    let (run_before, whole) = (next().unwrap_or_default(), next().is_some_and(|whole| whole == "1"));
    let synced = next().is_some_and(|synced| synced == "1");
    Some(Mark { lineage, run, replid, base, beat, beat_ms, run_before, whole, synced })
}

/// What a process is told of a restart for which another one has drawn the consequences.
fn restarted(seen: Option<&Mark>, stored: Option<&Mark>) -> Lineage {
    // There may have been other restarts in between, of which nobody knows any more what they kept.
    let whole = seen.zip(stored).is_some_and(|(seen, stored)| stored.whole && stored.run_before == seen.run);
    let since_ms = seen.or(stored).map(|mark| mark.beat_ms).filter(|_| !whole);
    Lineage::Restarted { since_ms, dropped: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lineage: &str, run: &str, base: u64, beat: u64) -> Mark {
        Mark {
            lineage: lineage.into(),
            run: run.into(),
            replid: String::new(),
            base,
            beat,
            beat_ms: 0,
            run_before: String::new(),
            whole: false,
            synced: false,
        }
    }

    /// Whoever comes second is told what may be lost of its own, unless it knows that nothing is.
    #[test]
    fn who_comes_after_the_first_is_told_too() {
        let seen = Mark { beat_ms: 7, ..at("l", "one", 0, 100) };
        let told = |stored: &Mark| match restarted(Some(&seen), Some(stored)) {
            Lineage::Restarted { since_ms, .. } => since_ms,
            _ => None,
        };
        let stored = Mark { run_before: "one".into(), beat_ms: 9, ..at("l", "two", 100, 300) };
        assert_eq!(told(&stored), Some(7), "everything since the last beat that it saw itself");
        assert_eq!(told(&Mark { whole: true, ..stored.clone() }), None, "nothing is lost");
        let after_two = Mark { whole: true, run_before: "between".into(), ..stored };
        assert_eq!(told(&after_two), Some(7), "nobody knows what the run in between had kept");
    }

    #[test]
    fn what_was_not_told_yet_is_not_forgotten() {
        let restarted = |since_ms| Lineage::Restarted { since_ms, dropped: 1 };
        let broken = |since_ms| Lineage::Broken { since_ms, dropped: 2 };
        for (old, new, told) in [
            (Lineage::Unbroken, broken(Some(7)), broken(Some(7))),
            (broken(Some(7)), Lineage::Unbroken, broken(Some(7))),
            (restarted(Some(5)), Lineage::Unbroken, restarted(Some(5))),
            (restarted(Some(5)), broken(Some(7)), Lineage::Broken { since_ms: Some(5), dropped: 3 }),
            (broken(Some(5)), restarted(Some(7)), Lineage::Broken { since_ms: Some(5), dropped: 3 }),
            (restarted(None), restarted(Some(7)), Lineage::Restarted { since_ms: Some(7), dropped: 2 }),
        ] {
            assert_eq!(worse(old, new), told, "{old:?} {new:?}");
        }
    }

    #[test]
    fn beats_tell_what_became_of_the_data() {
        let seen = at("l", "one", 0, 100);
        for (what, seen, stored, run, verdict) in [
            ("first of all", None, None, "one", Verdict::New),
            ("joins", None, Some(at("l", "one", 0, 5)), "one", Verdict::Same),
            ("starts after a restart", None, Some(at("l", "one", 0, 5)), "two", Verdict::Restarted { handled: false }),
            ("goes on", Some(&seen), Some(at("l", "one", 0, 107)), "one", Verdict::Same),
            ("emptied", Some(&seen), None, "one", Verdict::Emptied),
            (
                "emptied, another began anew",
                Some(&seen),
                Some(at("m", "one", 0, 500)),
                "one",
                Verdict::WentBack { handled: true },
            ),
            (
                "loaded from an older file",
                Some(&seen),
                Some(at("l", "one", 0, 99)),
                "two",
                Verdict::WentBack { handled: false },
            ),
            (
                "went back under the same run",
                Some(&seen),
                Some(at("l", "one", 0, 99)),
                "one",
                Verdict::WentBack { handled: false },
            ),
            ("all there", Some(&seen), Some(at("l", "one", 0, 100)), "two", Verdict::Restarted { handled: false }),
            (
                "all there, another came first",
                Some(&seen),
                Some(at("l", "two", 100, 300)),
                "two",
                Verdict::Restarted { handled: true },
            ),
            ("a newcomer came first, without a memory", Some(&seen), Some(at("l", "two", 90, 300)), "two", {
                Verdict::WentBack { handled: false }
            }),
            (
                "back to an older lineage",
                Some(&seen),
                Some(at("k", "nil", 0, 900)),
                "two",
                Verdict::WentBack { handled: false },
            ),
        ] {
            assert_eq!(judge(seen, stored.as_ref(), run), verdict, "{what}");
        }
    }
}
