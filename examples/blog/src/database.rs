//! What is asked of the database itself: lists, and what it holds of the counts. A cache knows single keys.

use uuid::Uuid;
use write_behind::SqlEntity;
use write_behind::sql::sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement, Value,
};

use crate::entities::{Author, Comment};

/// Rows that are listed at most.
const LISTED: u32 = 50;

/// Reads past the cache: what is found is as old as the last flush.
#[derive(Clone)]
pub(crate) struct Database(DatabaseConnection);

/// A post, as far as the database knows.
pub(crate) struct Stored {
    pub(crate) id: Uuid,
    pub(crate) views: i64,
}

impl Database {
    pub(crate) const fn new(connection: DatabaseConnection) -> Self {
        Self(connection)
    }

    /// For people.
    pub(crate) fn name(&self) -> &'static str {
        match self.0.get_database_backend() {
            DbBackend::Postgres => "PostgreSQL",
            DbBackend::Sqlite => "SQLite",
            _ => "another one",
        }
    }

    /// The newest posts, the newest first.
    pub(crate) async fn posts(&self) -> Result<Vec<Stored>, DbErr> {
        let rows = self.rows(format!("SELECT id, views FROM posts ORDER BY id DESC LIMIT {LISTED}"), []).await?;
        rows.iter().map(|row| Ok(Stored { id: row.try_get_by("id")?, views: row.try_get_by("views")? })).collect()
    }

    /// Authors by name.
    pub(crate) async fn authors(&self) -> Result<Vec<Author>, DbErr> {
        let rows = self.rows("SELECT id, name, version FROM authors ORDER BY name, id LIMIT 1000", []).await?;
        rows.iter().map(Author::from_row).collect()
    }

    /// The newest comments of a post, in the order in which they were made.
    pub(crate) async fn comments(&self, post: Uuid) -> Result<Vec<Comment>, DbErr> {
        let text = format!(
            "SELECT id, post_id, author, text, created_at FROM comments WHERE post_id = $1 ORDER BY id DESC LIMIT {LISTED}"
        );
        let rows = self.rows(text, [post.into()]).await?;
        rows.iter().rev().map(Comment::from_row).collect()
    }

    async fn rows<const N: usize>(
        &self,
        text: impl Into<String>,
        values: [Value; N],
    ) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(Statement::from_sql_and_values(self.0.get_database_backend(), text, values)).await
    }
}
