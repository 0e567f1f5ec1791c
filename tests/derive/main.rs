//! What the derive's output does at run time.

mod entity;
mod model;
mod mongo;
mod sql;
