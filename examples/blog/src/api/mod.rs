//! The HTTP API, and the page.
//!
//! | request | does |
//! |---|---|
//! | `GET /` | the page |
//! | `POST /authors {"name": …}`, `GET /authors` | creates; lists from the database |
//! | `GET /authors/{id}`, `PUT /authors/{id} {"name": …, "version": …}` | shows; renames whom one has read in this version |
//! | `POST /posts {"author_id": …, "title": …, "body": …}`, `GET /posts` | creates; lists |
//! | `GET /posts/{id}`, `PATCH /posts/{id} {"title": …}`, `DELETE /posts/{id}` | shows; edits what is given; deletes |
//! | `POST /posts/{id}/view` | counts a view |
//! | `POST /posts/{id}/views {"count": …}` | counts many at once, and says what became of them |
//! | `POST /posts/{id}/comments {"author": …, "text": …}`, `GET …` | adds; lists from the database |
//! | `GET /stats` | figures of the engine |
//! | `GET /events` | the same as they change, and what the engine tells, as server-sent events |
//!
//! Errors are `{"error": …}`: 400 for what is not allowed, 404 for what is not there, 409 for who was too late, 503 while Redis
//! or the database is away.

mod authors;
mod comments;
mod events;
mod failure;
mod feed;
mod input;
mod posts;
mod stats;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};

use crate::api::failure::Failure;
use crate::store::Store;

pub(crate) fn routes(store: Arc<Store>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/authors", get(authors::list).post(authors::create))
        .route("/authors/{id}", get(authors::show).put(authors::rename))
        .route("/posts", get(posts::list).post(posts::create))
        .route("/posts/{id}", get(posts::show).patch(posts::edit).delete(posts::delete))
        .route("/posts/{id}/view", post(views::one))
        .route("/posts/{id}/views", post(views::many))
        .route("/posts/{id}/comments", get(comments::list).post(comments::create))
        .route("/stats", get(stats::show))
        .route("/events", get(events::stream))
        .fallback(async || Failure::NotFound("page"))
        .method_not_allowed_fallback(async || Failure::Method)
        .with_state(store)
}

async fn page() -> impl IntoResponse {
    // Everything is in the file; nothing else may be loaded by what somebody writes into a post.
    let policy =
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:";
    ([(CONTENT_SECURITY_POLICY, policy)], Html(include_str!("../page.html")))
}
