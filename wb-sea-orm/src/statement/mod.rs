//! Texts and arguments of statements.

pub(crate) mod bind;
pub(crate) mod dialect;
pub(crate) mod plan;
