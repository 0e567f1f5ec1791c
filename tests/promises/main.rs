//! The promises P1 to P13 on real servers, and the negative controls: with the mechanism switched off that a promise
//! rests on, the same function must find it broken.
//!
//! A promise is a function from a [`House`] to a violation. It places events exactly: a gate before and after the sink
//! holds a worker at a step, a wire to Redis holds a client between two commands, and an engine on a thread of its own
//! can be stopped as a whole. Nothing depends on how long something takes.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "the lists are made here")]

mod account;
mod events;
mod gate;
mod house;
mod losses;
mod negative_controls;
mod p01;
mod p02;
mod p03;
mod p04;
mod p05;
mod p06;
mod p07;
mod p08;
mod p09;
mod p10;
mod p11;
mod p12;
mod p13;
mod store;
mod violation;
mod wire;

use write_behind::Mechanism;

use crate::house::House;
use crate::store::Kind;
use crate::violation::Kept;

/// Runs a promise in a house of its own; `None` where there are no servers.
async fn visit(kind: Kind, without: Option<Mechanism>, promise: impl AsyncFn(&House) -> Kept) -> Option<Kept> {
    let mut house = House::open(kind).await.unwrap()?;
    if let Some(mechanism) = without {
        house = house.without(mechanism);
    }
    let kept = promise(&house).await;
    // A house that cannot be tidied up breaks no promise.
    if let Err(untidy) = house.close().await {
        println!("not tidied up: {untidy:?}");
    }
    Some(kept)
}

async fn keeps(kind: Kind, promise: impl AsyncFn(&House) -> Kept) {
    if let Some(Err(violation)) = visit(kind, None, promise).await {
        panic!("{violation:?}");
    }
}

/// Makes a test of each promise on one database.
macro_rules! promises {
    ($database:ident, $kind:ident: $($file:ident::$promise:ident),* $(,)?) => {
        mod $database {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    super::keeps(crate::store::Kind::$kind, crate::$file::$promise).await;
                }
            )*
        }
    };
}

promises!(postgres, Postgres:
    p01::p1_no_acknowledged_write_is_lost,
    p01::p1_a_late_ack_removes_nothing,
    p01::p1_a_panic_in_the_sink_is_contained,
    p01::p1_a_change_of_topology_under_load_loses_nothing,
    p02::p2_what_is_read_is_flushed,
    p02::p2_a_write_is_one_command,
    p03::p3_the_sink_never_goes_back,
    p03::p3_losing_redis_resets_no_generation,
    p03::p3_a_change_of_topology_takes_no_row_back,
    p03::p3_a_refused_state_never_replaces_a_newer_one,
    p04::p4_a_write_during_a_flush_stays_dirty,
    p05::p5_the_last_operation_wins,
    p06::p6_neither_hot_nor_cold_keys_starve,
    p07::p7_dirty_keys_never_pass_the_limit,
    p07::p7_a_write_at_the_limit_waits_for_room,
    p08::p8_one_bad_record_never_blocks_others,
    p08::p8_an_outage_dead_letters_nothing,
    p08::p8_a_missing_table_dead_letters_nothing,
    p09::p9_a_write_is_read_in_every_phase,
    p09::p9_a_record_that_moves_is_read,
    p10::p10_dirty_never_expires,
    p10::p10_an_evicting_redis_is_refused,
    p10::p10_a_full_redis_is_drained_whatever_it_evicts,
    p11::p11_what_remains_is_counted_and_flushed_by_the_next,
    p11::p11_a_healthy_shutdown_leaves_nothing,
    p12::p12_bad_input_is_refused_before_it_is_stored,
    p12::p12_what_does_not_decode_is_kept_whole,
    p13::p13_what_is_written_together_is_flushed_together,
    p13::p13_the_pages_of_a_flush_are_of_one_instant,
    losses::an_epoch_that_vanishes_is_not_flushed,
    losses::losing_all_of_redis_ends_a_flush_with_a_report,
);

promises!(mariadb, Mariadb:
    p01::p1_no_acknowledged_write_is_lost,
    p01::p1_a_late_ack_removes_nothing,
    p03::p3_the_sink_never_goes_back,
    p03::p3_losing_redis_resets_no_generation,
    p03::p3_a_refused_state_never_replaces_a_newer_one,
    p04::p4_a_write_during_a_flush_stays_dirty,
    p05::p5_the_last_operation_wins,
    p06::p6_neither_hot_nor_cold_keys_starve,
    p08::p8_one_bad_record_never_blocks_others,
    p08::p8_an_outage_dead_letters_nothing,
    p08::p8_a_missing_table_dead_letters_nothing,
    p09::p9_a_write_is_read_in_every_phase,
    p11::p11_what_remains_is_counted_and_flushed_by_the_next,
    p12::p12_what_does_not_decode_is_kept_whole,
    p13::p13_what_is_written_together_is_flushed_together,
);

promises!(mongo, Mongo:
    p01::p1_no_acknowledged_write_is_lost,
    p01::p1_a_late_ack_removes_nothing,
    p03::p3_the_sink_never_goes_back,
    p03::p3_losing_redis_resets_no_generation,
    p03::p3_a_change_of_topology_takes_no_row_back,
    p03::p3_a_refused_state_never_replaces_a_newer_one,
    p04::p4_a_write_during_a_flush_stays_dirty,
    p05::p5_the_last_operation_wins,
    p06::p6_neither_hot_nor_cold_keys_starve,
    p08::p8_one_bad_record_never_blocks_others,
    p08::p8_an_outage_dead_letters_nothing,
    p09::p9_a_write_is_read_in_every_phase,
    p11::p11_what_remains_is_counted_and_flushed_by_the_next,
    p12::p12_what_does_not_decode_is_kept_whole,
    p13::p13_what_is_written_together_is_flushed_together,
);

promises!(sqlite, Sqlite:
    p01::p1_no_acknowledged_write_is_lost,
    p03::p3_the_sink_never_goes_back,
    p04::p4_a_write_during_a_flush_stays_dirty,
    p05::p5_the_last_operation_wins,
    p08::p8_one_bad_record_never_blocks_others,
    p08::p8_an_outage_dead_letters_nothing,
    p13::p13_what_is_written_together_is_flushed_together,
);

// A sink of the application's own that keeps the contract.
promises!(own_sink, Scripted:
    p01::p1_no_acknowledged_write_is_lost,
    p03::p3_the_sink_never_goes_back,
    p03::p3_losing_redis_resets_no_generation,
    p04::p4_a_write_during_a_flush_stays_dirty,
    p13::p13_what_is_written_together_is_flushed_together,
);
