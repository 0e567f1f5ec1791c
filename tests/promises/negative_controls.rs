//! Each mechanism switched off breaks the promise that rests on it: the same function that holds a promise must find it
//! broken, in the way that is expected.

use write_behind::Mechanism;

use crate::house::House;
use crate::store::Kind;
use crate::violation::{Kept, Sort};
use crate::visit;

/// Without `mechanism` the promise is broken like this, and not otherwise: a test that cannot be carried out shows
/// nothing.
async fn breaks(kind: Kind, mechanism: Mechanism, sort: Sort, promise: impl AsyncFn(&House) -> Kept) {
    match visit(kind, Some(mechanism), &promise).await {
        None => {}
        Some(Ok(())) => panic!("kept without {mechanism:?}: the test of the promise cannot fail"),
        Some(Err(violation)) => {
            println!("without {mechanism:?}: {violation:?}");
            assert_eq!(violation.sort, sort, "broken in another way: {violation:?}");
        }
    }
}

macro_rules! controls {
    ($($name:ident: $mechanism:ident breaks $file:ident::$promise:ident as $sort:ident on $kind:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                breaks(Kind::$kind, Mechanism::$mechanism, Sort::$sort, crate::$file::$promise).await;
            }
        )*
    };
}

controls! {
    negative_control_p4_writes_into_the_closed_epoch:
        ClosedEpochs breaks p04::p4_a_write_during_a_flush_stays_dirty as Lost on Postgres;
    negative_control_p13_writes_into_the_closed_epoch:
        ClosedEpochs breaks p13::p13_the_pages_of_a_flush_are_of_one_instant as Torn on Postgres;
    negative_control_p1_removal_before_the_commit:
        CommitFirst breaks p01::p1_no_acknowledged_write_is_lost as Lost on Postgres;
    negative_control_p1_a_layout_that_is_not_sealed:
        Seal breaks p01::p1_a_change_of_topology_under_load_loses_nothing as Lost on Postgres;
    negative_control_p3_no_fence_across_a_change_of_topology:
        Fence breaks p03::p3_a_change_of_topology_takes_no_row_back as WentBack on Postgres;
    negative_control_p3_no_fence:
        Fence breaks p03::p3_the_sink_never_goes_back as WentBack on Postgres;
    negative_control_p3_no_fence_on_mariadb:
        Fence breaks p03::p3_the_sink_never_goes_back as WentBack on Mariadb;
    negative_control_p3_no_fence_on_mongo:
        Fence breaks p03::p3_the_sink_never_goes_back as WentBack on Mongo;
    negative_control_p3_no_fence_on_an_own_sink:
        Fence breaks p03::p3_the_sink_never_goes_back as WentBack on Scripted;
    negative_control_p1_an_ack_of_anybody:
        AckCheck breaks p01::p1_a_late_ack_removes_nothing as Lost on Postgres;
    negative_control_p10_dirty_with_a_ttl:
        NoTtl breaks p10::p10_dirty_never_expires as Expires on Postgres;
    negative_control_p10_leases_with_a_ttl:
        LeaseWithoutTtl breaks p10::p10_a_full_redis_is_drained_whatever_it_evicts as Overdue on Postgres;
    negative_control_p3_back_overwrites:
        BackIfAbsent breaks p03::p3_a_refused_state_never_replaces_a_newer_one as WentBack on Postgres;
    negative_control_p9_readers_look_the_other_way_round:
        ReadOrder breaks p09::p9_a_record_that_moves_is_read as Unread on Postgres;
}
