//! The domain struct. Nothing in it says which database it goes to.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use write_behind::WriteBehind;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "todo", table = "todos", collection = "todos", native_bson)]
pub(crate) struct Todo {
    #[wb(key)]
    pub(crate) id: Uuid,
    pub(crate) title: String,
    pub(crate) done: bool,
    #[wb(insert_only)]
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}
