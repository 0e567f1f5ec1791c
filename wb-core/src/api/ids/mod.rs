//! Keys that the application makes. Write-behind answers before the database has seen the row, so it cannot wait for an
//! `AUTO_INCREMENT` or an identity column; and a key that is known at once can be used at once.
//!
//! | keys | from | what they are |
//! |---|---|---|
//! | [`uuid_v7`] | nothing | 16 bytes, ordered by time: no hot spot of random keys in an index |
//! | [`ulid`] | nothing | the same as 26 letters and digits |
//! | [`Ids`] | [`Engine::ids`](crate::Engine::ids) | integers in blocks, from a counter in the buffer; unique, not dense |
//!
//! An entity whose key column the database would fill in is refused at start, unless it says `#[wb(client_keys)]`.

pub(crate) mod blocks;
pub(crate) mod ulid;

use uuid::Uuid;

pub use blocks::Ids;
pub use ulid::ulid;

/// A UUID of version 7: 48 bits of milliseconds since 1970, then a counter and random bits. UUIDs of one process ascend;
/// those of several are ordered as well as their clocks agree.
///
/// ```
/// use wb_core::{Id, ids};
///
/// let (first, second) = (ids::uuid_v7(), ids::uuid_v7());
/// assert!(first < second);
/// assert_eq!(Id::of(&first)?.parse(), Ok(first));
/// # Ok::<(), wb_core::KeyError>(())
/// ```
#[must_use]
pub fn uuid_v7() -> Uuid {
    Uuid::now_v7()
}
