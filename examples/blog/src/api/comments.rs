//! Comments: only ever added, and read from the database.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failure::Failure;
use super::input::{Body, Key, text};
use crate::entities::{Comment, now};
use crate::store::Store;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    author: String,
    text: String,
}

#[derive(Serialize)]
pub(crate) struct Comments {
    comments: Vec<Comment>,
    /// Comments of this post that were made here and are not in the database yet.
    waiting: usize,
}

/// Answers when the comment is in the buffer; it is listed a moment later.
pub(crate) async fn create(
    State(store): State<Arc<Store>>,
    Key(post_id): Key,
    Body(draft): Body<Draft>,
) -> Result<impl IntoResponse, Failure> {
    let comment = Comment {
        id: Uuid::now_v7(),
        post_id,
        author: text("author", draft.author, 80)?,
        text: text("text", draft.text, 2_000)?,
        created_at: now(),
    };
    if store.posts.get(&post_id).await?.is_none() {
        // Were it deleted right after this, the comment would become a dead letter: nobody waits for the database.
        return Err(Failure::NotFound("post"));
    }
    store.comments.append(&comment).await?;
    store.fresh.comment(comment.id, post_id);
    Ok((StatusCode::ACCEPTED, Json(comment)))
}

pub(crate) async fn list(State(store): State<Arc<Store>>, Key(post_id): Key) -> Result<Json<Comments>, Failure> {
    if store.posts.get(&post_id).await?.is_none() {
        return Err(Failure::NotFound("post"));
    }
    let comments = store.database().comments(post_id).await?;
    let waiting = store.fresh.still_waiting(post_id, comments.iter().map(|comment| comment.id));
    Ok(Json(Comments { comments, waiting }))
}
