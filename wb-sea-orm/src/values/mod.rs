//! What a column keeps of a value, and what is refused because it would be changed.

pub(crate) mod fits;
pub(crate) mod kept;
pub(crate) mod limit;
pub(crate) mod moment;
pub(crate) mod storable;
pub(crate) mod unstorable;
