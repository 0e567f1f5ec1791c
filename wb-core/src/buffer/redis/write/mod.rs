//! Writes to Redis: in groups, within limits, by compare-and-set.

pub(crate) mod append;
pub(crate) mod compare_and_set;
pub(crate) mod durability;
pub(crate) mod group;
pub(crate) mod group_commit;
pub(crate) mod limit;
