//! Documents by their keys.

pub(crate) mod load;
pub(crate) mod spelling;
