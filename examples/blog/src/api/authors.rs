//! Authors: created, renamed under a version.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use uuid::Uuid;

use super::failure::Failure;
use super::input::{Body, Key, text};
use crate::entities::Author;
use crate::store::Store;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    /// Made here, unless the client wants to be able to repeat its request.
    id: Option<Uuid>,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Renamed {
    name: String,
    /// The version that was read.
    version: i64,
}

pub(crate) async fn create(
    State(store): State<Arc<Store>>,
    Body(draft): Body<Draft>,
) -> Result<impl IntoResponse, Failure> {
    let id = draft.id.unwrap_or_else(Uuid::now_v7);
    let author = Author { id, name: text("name", draft.name, 80)?, version: 1 };
    store.authors.put_if_absent(&author).await?.ok_or(Failure::Exists("author"))?;
    Ok((StatusCode::CREATED, Json(author)))
}

pub(crate) async fn list(State(store): State<Arc<Store>>) -> Result<Json<Vec<Author>>, Failure> {
    Ok(Json(store.database().authors().await?))
}

pub(crate) async fn show(State(store): State<Arc<Store>>, Key(id): Key) -> Result<Json<Author>, Failure> {
    store.authors.get(&id).await?.map(Json).ok_or(Failure::NotFound("author"))
}

/// Stores the next version; when somebody else has stored it already, this is a conflict, and nothing is stored.
pub(crate) async fn rename(
    State(store): State<Arc<Store>>,
    Key(id): Key,
    Body(renamed): Body<Renamed>,
) -> Result<Json<Author>, Failure> {
    let version = renamed.version.checked_add(1).ok_or_else(|| Failure::BadInput("`version` is too high".into()))?;
    let author = Author { id, name: text("name", renamed.name, 80)?, version };
    store.authors.replace(&author).await?.ok_or(Failure::NotFound("author"))?;
    Ok(Json(author))
}
