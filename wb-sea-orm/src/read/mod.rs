//! Values by their keys.

pub(crate) mod highest_key;
pub(crate) mod load;
pub(crate) mod loads;
