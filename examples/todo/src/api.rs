//! The HTTP API.
//!
//! | request | does |
//! |---|---|
//! | `POST /todos {"title": …}` | creates |
//! | `GET /todos/{id}` | shows one |
//! | `PATCH /todos/{id} {"title": …}` | edits |
//! | `POST /todos/{id}/complete` | completes |
//! | `DELETE /todos/{id}` | deletes |

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::Utc;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;
use write_behind::{Cache, CacheError};

use crate::todo::Todo;

pub(crate) fn routes(todos: Cache<Todo>) -> Router {
    Router::new()
        .route("/todos", post(create))
        .route("/todos/{id}", get(show).patch(edit).delete(delete))
        .route("/todos/{id}/complete", post(complete))
        .with_state(todos)
}

#[derive(Deserialize)]
struct Draft {
    title: String,
}

async fn create(State(todos): State<Cache<Todo>>, Json(draft): Json<Draft>) -> Result<impl IntoResponse, Failure> {
    let now = Utc::now();
    // The client makes the key: a write-behind cache cannot wait for a database to number rows.
    let todo = Todo { id: Uuid::new_v4(), title: draft.title, done: false, created_at: now, updated_at: now };
    todos.put(&todo).await?;
    Ok((StatusCode::CREATED, Json(todo)))
}

async fn show(State(todos): State<Cache<Todo>>, Path(id): Path<Uuid>) -> Result<Json<Todo>, Failure> {
    todos.get(&id).await?.map(Json).ok_or(Failure::NotFound)
}

async fn edit(
    State(todos): State<Cache<Todo>>,
    Path(id): Path<Uuid>,
    Json(draft): Json<Draft>,
) -> Result<Json<Todo>, Failure> {
    change(&todos, id, |todo| todo.title = draft.title).await
}

async fn complete(State(todos): State<Cache<Todo>>, Path(id): Path<Uuid>) -> Result<Json<Todo>, Failure> {
    change(&todos, id, |todo| todo.done = true).await
}

/// Reads, changes and writes a todo; of two changes at the same time the later one wins.
async fn change(todos: &Cache<Todo>, id: Uuid, change: impl FnOnce(&mut Todo)) -> Result<Json<Todo>, Failure> {
    let mut todo = todos.get(&id).await?.ok_or(Failure::NotFound)?;
    change(&mut todo);
    todo.updated_at = Utc::now();
    todos.put(&todo).await?;
    Ok(Json(todo))
}

async fn delete(State(todos): State<Cache<Todo>>, Path(id): Path<Uuid>) -> Result<StatusCode, Failure> {
    todos.delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What can go wrong, as an answer.
enum Failure {
    NotFound,
    Cache(CacheError),
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "no such todo".to_owned()),
            Self::Cache(error @ (CacheError::Key(_) | CacheError::TooLarge { .. })) => {
                (StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
            Self::Cache(error) => {
                tracing::error!(error = %error, "request failed");
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        };
        (status, Json(json!({ "error": text }))).into_response()
    }
}
