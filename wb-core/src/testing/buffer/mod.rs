//! What every [`Buffer`] must do, checked on a real one.
//!
//! Each check opens a space of its own under a namespace that was never used before, so that checks can run in any
//! order, at the same time, and on a server that others use. [`all`] runs every one of them and closes the buffer.
//!
//! Checks that wait for a TTL look again and again until a deadline: they pass as soon as a real clock allows, and at
//! once under tokio's paused clock.
#![expect(clippy::panic, reason = "a failed check ends the test that runs it")]

mod changes;
mod epochs;
mod ids;
mod leases;
mod leaving;
mod letters;
mod limits;
mod loads;
mod logs;
mod looks;
mod orphans;
mod settling;
mod shapes;
mod signals;
mod stale;
mod topology;
mod transactions;
mod units;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::buffer::record::{Record, Write};
use crate::buffer::{Buffer, Clean, Done, Lookup, Registration, Rotation, Space, Stamp, Status, Step, Stored};
use crate::entity::codec::Format;
use crate::entity::key::Id;
use crate::error::buffer::BufferError;
use crate::telemetry::scope::Scope;

pub use self::changes::{
    looks_where_records_stand, p7_swaps_keep_to_the_limit, swaps_exclude, swaps_what_stands,
    swaps_what_was_loaded_to_the_byte,
};
pub use self::epochs::{
    counts_where_it_stands, p4_a_write_after_rotation_survives_the_ack, p4_steps_of_an_earlier_rotation_do_nothing,
    p13_pages_are_the_cut, refuses_strangers, rotates_for_the_owner_only, rotates_once_until_flushed,
};
pub use self::ids::reserves_ids;
pub use self::leases::{
    heartbeats_list_the_living, heartbeats_renew, leases_end, leases_exclude, topology_changes_are_noticed,
};
pub use self::leaving::{
    a_change_of_topology_that_comes_to_nothing_leaves_nothing_closed,
    p1_a_topology_that_is_being_left_closes_with_its_epochs, p13_what_is_written_together_is_closed_together,
};
pub use self::letters::{
    counts_what_steps_move, discards_letters, lists_letters, p3_a_replay_never_overwrites_a_newer_state,
    replays_letters,
};
pub use self::limits::{
    p7_a_call_gets_in_whole_or_not_at_all, p7_concurrent_writers_stay_within_the_limit,
    p7_only_dirty_keys_are_written_at_the_limit,
};
pub use self::loads::{
    fills_for_the_standing_token_only, loaded_copies_say_by_whom, tells_which_copies_are_the_sinks, tokens_exclude,
    tokens_fall_to_newer_states,
};
pub use self::logs::{
    logs_are_a_part_of_the_topology, logs_count_and_end_with_the_epoch, p1_a_trim_takes_off_what_was_read,
    p7_logs_stay_within_the_limit, p13_logs_are_the_cut_in_order, trims_keep_what_was_refused,
};
pub use self::looks::{invalidates_what_is_clean_only, scans_what_is_dirty};
pub use self::orphans::names_what_nobody_flushes;
pub use self::settling::{
    ack_clears_attempts_and_letters, ack_leaves_clean_copies, back_keeps_the_newer_state, bury_keeps_letters,
    late_steps_are_harmless, lists_held_deletes, p9_back_stays_readable, p10_clean_copies_expire_and_dirty_ones_do_not,
};
pub use self::shapes::{forgets_the_oldest_shapes, lists_shapes};
pub use self::signals::nudges_wake_who_flushes;
pub use self::stale::{bounds_what_it_remembers_of_what_was_left_out, remembers_what_was_left_out};
pub use self::topology::{
    closes, p1_a_topology_that_is_left_is_sealed, p3_a_topology_with_dead_letters_does_not_change,
    topology_is_fixed_while_dirty,
};
pub use self::transactions::{
    p7_transactions_stay_within_the_limit, p13_all_partitions_are_one_cut, p13_marks_travel_with_their_records,
    p13_units_are_buried_whole, p13_units_go_back_whole, reads_together_what_stands_apart,
    transactions_are_all_or_nothing,
};
pub use self::units::p13_letters_of_a_unit_come_back_whole;
pub use self::writes::{
    counts_keys_that_become_dirty, keeps_spaces_apart, puts_and_gets, takes_any_bytes_as_id, takes_large_payloads,
    takes_many_writes_in_one_call,
};

/// Runs every check on a buffer, and closes it.
///
/// # Panics
/// When the buffer breaks its contract; the message names the check and the step.
pub async fn all(buffer: &(impl Buffer + ?Sized)) {
    puts_and_gets(buffer).await;
    takes_any_bytes_as_id(buffer).await;
    takes_large_payloads(buffer).await;
    takes_many_writes_in_one_call(buffer).await;
    counts_keys_that_become_dirty(buffer).await;
    keeps_spaces_apart(buffer).await;
    reserves_ids(buffer).await;
    rotates_for_the_owner_only(buffer).await;
    rotates_once_until_flushed(buffer).await;
    p4_a_write_after_rotation_survives_the_ack(buffer).await;
    p4_steps_of_an_earlier_rotation_do_nothing(buffer).await;
    p13_pages_are_the_cut(buffer).await;
    refuses_strangers(buffer).await;
    counts_where_it_stands(buffer).await;
    ack_leaves_clean_copies(buffer).await;
    p10_clean_copies_expire_and_dirty_ones_do_not(buffer).await;
    ack_clears_attempts_and_letters(buffer).await;
    remembers_what_was_left_out(buffer).await;
    bounds_what_it_remembers_of_what_was_left_out(buffer).await;
    back_keeps_the_newer_state(buffer).await;
    p9_back_stays_readable(buffer).await;
    bury_keeps_letters(buffer).await;
    lists_held_deletes(buffer).await;
    late_steps_are_harmless(buffer).await;
    counts_what_steps_move(buffer).await;
    lists_letters(buffer).await;
    replays_letters(buffer).await;
    p3_a_replay_never_overwrites_a_newer_state(buffer).await;
    discards_letters(buffer).await;
    tokens_exclude(buffer).await;
    fills_for_the_standing_token_only(buffer).await;
    tokens_fall_to_newer_states(buffer).await;
    loaded_copies_say_by_whom(buffer).await;
    tells_which_copies_are_the_sinks(buffer).await;
    leases_exclude(buffer).await;
    leases_end(buffer).await;
    heartbeats_list_the_living(buffer).await;
    heartbeats_renew(buffer).await;
    topology_is_fixed_while_dirty(buffer).await;
    topology_changes_are_noticed(buffer).await;
    p1_a_topology_that_is_left_is_sealed(buffer).await;
    p3_a_topology_with_dead_letters_does_not_change(buffer).await;
    p1_a_topology_that_is_being_left_closes_with_its_epochs(buffer).await;
    a_change_of_topology_that_comes_to_nothing_leaves_nothing_closed(buffer).await;
    p13_what_is_written_together_is_closed_together(buffer).await;
    names_what_nobody_flushes(buffer).await;
    p7_only_dirty_keys_are_written_at_the_limit(buffer).await;
    p7_a_call_gets_in_whole_or_not_at_all(buffer).await;
    p7_concurrent_writers_stay_within_the_limit(buffer).await;
    transactions_are_all_or_nothing(buffer).await;
    reads_together_what_stands_apart(buffer).await;
    p13_marks_travel_with_their_records(buffer).await;
    p13_all_partitions_are_one_cut(buffer).await;
    p13_units_go_back_whole(buffer).await;
    p13_units_are_buried_whole(buffer).await;
    p13_letters_of_a_unit_come_back_whole(buffer).await;
    p7_transactions_stay_within_the_limit(buffer).await;
    looks_where_records_stand(buffer).await;
    swaps_what_stands(buffer).await;
    swaps_what_was_loaded_to_the_byte(buffer).await;
    swaps_exclude(buffer).await;
    p7_swaps_keep_to_the_limit(buffer).await;
    lists_shapes(buffer).await;
    forgets_the_oldest_shapes(buffer).await;
    invalidates_what_is_clean_only(buffer).await;
    scans_what_is_dirty(buffer).await;
    nudges_wake_who_flushes(buffer).await;
    p13_logs_are_the_cut_in_order(buffer).await;
    logs_count_and_end_with_the_epoch(buffer).await;
    p1_a_trim_takes_off_what_was_read(buffer).await;
    trims_keep_what_was_refused(buffer).await;
    p7_logs_stay_within_the_limit(buffer).await;
    logs_are_a_part_of_the_topology(buffer).await;
    closes(buffer).await;
}

/// Partitions of the spaces of this suite.
const PARTITIONS: u16 = 4;
/// The partition that most checks work on.
const HERE: u16 = 1;
/// The worker that holds [`HERE`] once a check has called [`Bench::own`].
const OWNER: &str = "first";
/// Another worker.
const OTHER: &str = "second";
/// Longer than any check.
const LONG: Duration = Duration::from_secs(600);
/// How long a check waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Copies of rows, and of deletes, for as long as the check runs.
const KEEP: Clean = Clean { ttl: LONG, negative_ttl: LONG };

/// A space of its own for one check, and short words for its verbs.
struct Bench {
    check: &'static str,
    space: Arc<dyn Space>,
}

fn scope(partitions: u16) -> Arc<Scope> {
    Arc::new(Scope::new(format!("conformance-{}", uuid::Uuid::new_v4().simple()), "specimen", partitions))
}

fn id(text: impl AsRef<[u8]>) -> Id {
    Id::from_bytes(Bytes::copy_from_slice(text.as_ref())).unwrap_or_else(|error| panic!("no id: {error}"))
}

fn record(text: impl AsRef<[u8]>) -> Record {
    Record::from_bytes(Bytes::copy_from_slice(text.as_ref()))
}

fn dirty(text: &str) -> Lookup {
    Lookup::Dirty(record(text))
}

fn clean(text: &str) -> Lookup {
    Lookup::Clean(Stored::written(record(text)))
}

fn ids(texts: &[&str]) -> Vec<Id> {
    texts.iter().map(id).collect()
}

impl Bench {
    async fn open(buffer: &(impl Buffer + ?Sized), check: &'static str) -> Self {
        Self::of(buffer, check, Registration::new(scope(PARTITIONS), Format::Json)).await
    }

    async fn of(buffer: &(impl Buffer + ?Sized), check: &'static str, registration: Registration) -> Self {
        let space = match buffer.space(registration.clone()).await {
            Ok(space) => space,
            Err(error) => panic!("{check}: the space does not open: {error}"),
        };
        match buffer.agree(&[registration]).await {
            Ok(()) => {}
            Err(error) => panic!("{check}: the buffer does not agree: {error}"),
        }
        match space.start().await {
            Ok(()) => Self { check, space },
            Err(error) => panic!("{check}: the space does not start: {error}"),
        }
    }

    fn done<T>(&self, doing: &str, result: Result<T, BufferError>) -> T {
        result.unwrap_or_else(|error| panic!("{}: {doing}: {error}", self.check))
    }

    async fn put(&self, records: &[(&str, &str)]) {
        let writes = records
            .iter()
            .map(|(key, payload)| Write { partition: HERE, id: id(key), record: record(payload) })
            .collect();
        self.done("put", self.space.put(writes).await);
    }

    async fn get(&self, key: &str) -> Lookup {
        let found = self.done("get", self.space.get(HERE, &[id(key)]).await);
        assert_eq!(found.len(), 1, "{}: get: one answer per id", self.check);
        found.into_iter().next().unwrap_or(Lookup::Absent)
    }

    async fn sees(&self, key: &str, expected: Lookup) {
        assert_eq!(self.get(key).await, expected, "{}: `{key}` reads wrong", self.check);
    }

    /// Takes [`HERE`] for [`OWNER`].
    async fn own(&self) {
        assert_eq!(self.take(OWNER, LONG).await, [true], "{}: the lease is free", self.check);
    }

    async fn take(&self, owner: &str, ttl: Duration) -> Vec<bool> {
        self.done("take", self.space.take(&[HERE], owner, ttl).await)
    }

    async fn release(&self, owner: &str) {
        self.done("release", self.space.release(&[HERE], owner).await);
    }

    async fn rotate(&self, owner: &str) -> Rotation {
        self.done("rotate", self.space.rotate(HERE, owner, Stamp::default()).await)
    }

    /// Rotates for [`OWNER`], who has something to rotate.
    async fn rotated(&self) -> u64 {
        match self.rotate(OWNER).await {
            Rotation::Epoch(number) => number,
            other => panic!("{}: rotate: {other:?}", self.check),
        }
    }

    /// Puts and rotates in one: these records are in the epoch returned.
    async fn closed(&self, records: &[(&str, &str)]) -> u64 {
        self.put(records).await;
        self.rotated().await
    }

    /// The whole closed epoch, page by page.
    async fn claim(&self, limit: usize) -> BTreeMap<Id, Record> {
        let (mut all, mut cursor) = (BTreeMap::new(), 0);
        loop {
            let page = self.done("claim", self.space.claim(HERE, cursor, limit).await);
            all.extend(page.records);
            cursor = page.cursor;
            if cursor == 0 {
                return all;
            }
        }
    }

    async fn ack(&self, epoch: u64, keys: &[&str], clean: Clean) -> Done {
        self.done("ack", self.space.ack(&step(OWNER, epoch), &ids(keys), clean).await).done
    }

    async fn status(&self) -> Status {
        self.done("status", self.space.status(HERE).await)
    }

    /// Looks until `key` reads as expected.
    async fn comes_to(&self, key: &str, expected: &Lookup) {
        let deadline = Instant::now() + PATIENCE;
        while self.get(key).await != *expected {
            assert!(Instant::now() < deadline, "{}: `{key}` never reads as {expected:?}", self.check);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn step(owner: &str, epoch: u64) -> Step<'_> {
    Step { partition: HERE, owner, epoch, stamp: Stamp::default() }
}
