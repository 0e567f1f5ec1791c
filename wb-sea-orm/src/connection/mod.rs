//! Connections: opened by a URL, their sessions and transactions, and what an error means.

pub(crate) mod connect;
pub(crate) mod error;
pub(crate) mod session;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) mod tx;
#[cfg(not(any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
#[path = "tx/no_driver.rs"]
pub(crate) mod tx;
