//! The entity of these tests.

use write_behind::Id;
pub(crate) use write_behind_tests::Player;

pub(crate) fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}
