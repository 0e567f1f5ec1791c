//! Changes to a part of a value: counters and patches.

use std::fmt;

use crate::entity::Entity;

/// A set of changes to fields of `E`; the derive makes one for each entity, named after it: `PostPatch` for `Post`.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use wb_core::{CodecError, Entity, Format, codec};
/// use wb_core::Patch;
///
/// # #[derive(Serialize, Deserialize)]
/// # struct Post { id: u64, title: String }
/// # impl Entity for Post {
/// #     type Key = u64;
/// #     const NAME: &'static str = "post";
/// #     const FORMAT: Format = Format::Json;
/// #     fn key(&self) -> u64 { self.id }
/// #     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
/// #     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
/// # }
/// #[derive(Default)]
/// struct PostPatch { title: Option<String> }
///
/// impl Patch<Post> for PostPatch {
///     fn apply(&self, post: &mut Post) {
///         if let Some(title) = &self.title {
///             post.title.clone_from(title);
///         }
///     }
/// }
/// ```
///
/// # Contract
/// `apply` sets the fields that the patch holds, leaves all others alone, and never changes the key. It may be called more
/// than once, each time with the state that was found: on a conflict the patch is applied to the newer one. It changes the record;
/// which columns a flush writes does not depend on it (all that the struct maps, see [`Cache::patch`](crate::Cache::patch)).
pub trait Patch<E: Entity>: Send + 'static {
    /// Changes `value`.
    fn apply(&self, value: &mut E);
}

/// A number in an entity that can be counted up and down without reading it first; the derive makes a constant for each
/// field of a plain number type: `Post::VIEWS` for the field `views` of `Post`.
pub struct Counter<E, N: CounterField> {
    name: &'static str,
    field: fn(&mut E) -> &mut N,
}

impl<E, N: CounterField> Clone for Counter<E, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E, N: CounterField> Copy for Counter<E, N> {}

impl<E, N: CounterField> fmt::Debug for Counter<E, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter").field(&self.name).finish()
    }
}

impl<E, N: CounterField> Counter<E, N> {
    /// The counter of the field `name`, to be found by `field`.
    #[must_use]
    pub const fn new(name: &'static str, field: fn(&mut E) -> &mut N) -> Self {
        Self { name, field }
    }

    /// Name of the field.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Adds to the field and returns its new value; `None`, and nothing is changed, when that is out of its range.
    pub fn add(&self, value: &mut E, by: N::Delta) -> Option<N> {
        let field = (self.field)(value);
        let sum = field.plus(by)?;
        *field = sum;
        Some(sum)
    }
}

/// A number that can be counted: the integers, and the floating-point numbers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be counted",
    label = "not a number",
    note = "counters are `i8` to `i64`, `u8` to `u64`, `isize`, `usize`, `f32` and `f64`"
)]
pub trait CounterField: Copy + Send + Sync + 'static {
    /// What is added: `i64` to integers, `f64` to floating-point numbers.
    type Delta: Copy + Send + Sync + 'static;

    /// The sum; `None` when it is out of range.
    fn plus(self, by: Self::Delta) -> Option<Self>;
}

macro_rules! integers {
    ($($ty:ty),*) => {$(
        impl CounterField for $ty {
            type Delta = i64;

            fn plus(self, by: i64) -> Option<Self> {
                // No sum of two such numbers is out of the range of i128.
                Self::try_from(i128::try_from(self).ok()? + i128::from(by)).ok()
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

impl CounterField for f64 {
    type Delta = f64;

    fn plus(self, by: f64) -> Option<Self> {
        let sum = self + by;
        sum.is_finite().then_some(sum)
    }
}

impl CounterField for f32 {
    type Delta = f64;

    fn plus(self, by: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "a sum is rounded to the field's precision")]
        let sum = (f64::from(self) + by) as Self;
        sum.is_finite().then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::CounterField;

    #[test]
    fn sums_out_of_range_are_refused() {
        assert_eq!(250_u8.plus(5), Some(255));
        assert_eq!(250_u8.plus(6), None);
        assert_eq!(0_u64.plus(-1), None);
        assert_eq!(u64::MAX.plus(-1), Some(u64::MAX - 1));
        assert_eq!(i64::MAX.plus(1), None);
        assert_eq!(1.5_f32.plus(0.5), Some(2.0));
        assert_eq!(f64::MAX.plus(f64::MAX), None);
    }
}
