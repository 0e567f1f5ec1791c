//! The domain. Which database it goes to, and when, is said elsewhere.

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use write_behind::WriteBehind;

/// The time to the microsecond, which is what PostgreSQL keeps: a value must not change on its way.
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// Who writes. Of two editors who have read the same version the second gets a conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "author", table = "authors")]
pub(crate) struct Author {
    #[wb(key)]
    pub(crate) id: Uuid,
    pub(crate) name: String,
    #[wb(version)]
    pub(crate) version: i64,
}

/// What is read, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts")]
pub(crate) struct Post {
    /// A UUID of version 7: made here, because nobody waits for the database, and in the order of time.
    #[wb(key)]
    pub(crate) id: Uuid,
    #[wb(belongs_to = "Author")]
    pub(crate) author_id: Uuid,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) views: i64,
    #[wb(insert_only)]
    pub(crate) created_at: DateTime<Utc>,
}

/// What is said about a post: only ever added. Those of one post stay together and in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "comment", table = "comments", append)]
pub(crate) struct Comment {
    #[wb(key)]
    pub(crate) id: Uuid,
    #[wb(belongs_to = "Post", partition_by)]
    pub(crate) post_id: Uuid,
    pub(crate) author: String,
    pub(crate) text: String,
    pub(crate) created_at: DateTime<Utc>,
}
