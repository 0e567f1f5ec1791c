//! Shapes of an entity's struct that programs have made known.

use std::time::Duration;

/// What a buffer knows of shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenShapes {
    /// The shapes, oldest first: at least the [`SeenShape::MOST`] newest.
    pub shapes: Vec<SeenShape>,
    /// How long the buffer has kept this list without losing any of it; by its own clock.
    pub age: Duration,
}

impl SeenShapes {
    /// A list of this age.
    #[must_use]
    pub const fn new(shapes: Vec<SeenShape>, age: Duration) -> Self {
        Self { shapes, age }
    }
}

/// A shape, and since when it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenShape {
    /// The shape, as the program wrote it.
    pub shape: String,
    /// When it was first seen, in milliseconds by the buffer's clock. No two shapes have the same, and a later one has a
    /// higher one, also when the clock goes back.
    pub since_ms: u64,
}

impl SeenShape {
    /// A shape that was first seen then.
    #[must_use]
    pub const fn new(shape: String, since_ms: u64) -> Self {
        Self { shape, since_ms }
    }

    /// A sum of the shape, which is the same in every process.
    #[must_use]
    pub fn digest(&self) -> u64 {
        crate::buffer::record::digest(&[self.shape.as_bytes()])
    }

    /// Shapes that are remembered at most, the newest ones.
    pub const MOST: usize = 32;
}
