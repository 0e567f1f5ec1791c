//! The tables, with real foreign keys. A program that lives longer than an example has migrations.

use write_behind::sql::sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr};

const AUTHORS: &str = "CREATE TABLE IF NOT EXISTS authors (
    id {uuid} NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    version BIGINT NOT NULL
)";

const POSTS: &str = "CREATE TABLE IF NOT EXISTS posts (
    id {uuid} NOT NULL PRIMARY KEY,
    author_id {uuid} NOT NULL REFERENCES authors (id),
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    views BIGINT NOT NULL,
    created_at {time} NOT NULL
)";

// Comments are only ever added, so it is the database that takes them away with their post.
const COMMENTS: &str = "CREATE TABLE IF NOT EXISTS comments (
    id {uuid} NOT NULL PRIMARY KEY,
    post_id {uuid} NOT NULL REFERENCES posts (id) ON DELETE CASCADE,
    author TEXT NOT NULL,
    text TEXT NOT NULL,
    created_at {time} NOT NULL
)";

const BY_POST: &str = "CREATE INDEX IF NOT EXISTS comments_by_post ON comments (post_id, id)";

/// Creates what is missing.
pub(crate) async fn create(db: &DatabaseConnection) -> Result<(), DbErr> {
    // SQLite has neither type; these are the forms in which SeaORM stores such values there.
    let (uuid, time) = match db.get_database_backend() {
        DbBackend::Postgres => ("UUID", "TIMESTAMPTZ"),
        _ => ("BLOB", "TEXT"),
    };
    for statement in [AUTHORS, POSTS, COMMENTS, BY_POST] {
        db.execute_unprepared(&statement.replace("{uuid}", uuid).replace("{time}", time)).await?;
    }
    Ok(())
}
