//! Posts: created, listed, edited, deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failure::Failure;
use super::input::{Body, Key, text};
use crate::entities::{Post, PostPatch, now};
use crate::store::Store;

/// Posts that a list has at most.
const LISTED: usize = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    /// Made here, unless the client wants to be able to repeat its request.
    id: Option<Uuid>,
    author_id: Uuid,
    title: String,
    body: String,
}

/// What may be edited; what is not there stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    title: Option<String>,
    body: Option<String>,
}

/// A post with what the database knows of it.
#[derive(Serialize)]
pub(crate) struct Listed {
    #[serde(flatten)]
    pub(crate) post: Post,
    /// The count in the database; `None` when the post has not arrived there.
    pub(crate) stored_views: Option<i64>,
}

pub(crate) async fn create(
    State(store): State<Arc<Store>>,
    Body(draft): Body<Draft>,
) -> Result<impl IntoResponse, Failure> {
    let made_here = draft.id.is_none();
    let post = Post {
        id: draft.id.unwrap_or_else(Uuid::now_v7),
        author_id: draft.author_id,
        title: text("title", draft.title, 200)?,
        body: text("body", draft.body, 20_000)?,
        views: 0,
        created_at: now(),
    };
    if store.authors.get(&post.author_id).await?.is_none() {
        // The foreign key would refuse it too, but not before the answer.
        return Err(Failure::BadInput("`author_id` is of no author".into()));
    }
    if made_here {
        store.posts.put(&post).await?;
        store.fresh.post(post.id);
    } else {
        // A key of the client's may be taken; that is looked up, also in the database.
        store.posts.put_if_absent(&post).await?.ok_or(Failure::Exists("post"))?;
    }
    Ok((StatusCode::CREATED, Json(post)))
}

pub(crate) async fn list(State(store): State<Arc<Store>>) -> Result<Json<Vec<Listed>>, Failure> {
    Ok(Json(newest(&store).await?))
}

/// The newest posts: which there are says the database (and what was made here since), what is in them says the cache.
pub(crate) async fn newest(store: &Store) -> Result<Vec<Listed>, Failure> {
    let mut views: BTreeMap<Uuid, Option<i64>> = store.fresh.posts().into_iter().map(|id| (id, None)).collect();
    views.extend(store.database().posts().await?.into_iter().map(|stored| (stored.id, Some(stored.views))));
    // Keys of version 7 are in the order of time.
    let newest: Vec<(Uuid, Option<i64>)> = views.into_iter().rev().take(LISTED).collect();
    let ids: Vec<Uuid> = newest.iter().map(|(id, _)| *id).collect();
    let mut listed = Vec::with_capacity(ids.len());
    let mut known = Vec::new();
    for ((id, stored_views), post) in newest.into_iter().zip(store.posts.get_many(&ids).await?) {
        if stored_views.is_some() || post.is_none() {
            known.push(id);
        }
        // What was deleted is still in the database for a moment, but not in the cache.
        listed.extend(post.map(|post| Listed { post, stored_views }));
    }
    store.fresh.forget_posts(known.into_iter());
    Ok(listed)
}

pub(crate) async fn show(State(store): State<Arc<Store>>, Key(id): Key) -> Result<Json<Post>, Failure> {
    store.posts.get(&id).await?.map(Json).ok_or(Failure::NotFound("post"))
}

/// Leaves views alone that are counted at the same time.
pub(crate) async fn edit(
    State(store): State<Arc<Store>>,
    Key(id): Key,
    Body(edit): Body<Edit>,
) -> Result<Json<Post>, Failure> {
    let title = edit.title.map(|title| text("title", title, 200)).transpose()?;
    let body = edit.body.map(|body| text("body", body, 20_000)).transpose()?;
    if title.is_none() && body.is_none() {
        return Err(Failure::BadInput("there is neither `title` nor `body`".into()));
    }
    Ok(Json(store.posts.patch(&id, PostPatch { title, body, ..PostPatch::default() }).await?))
}

/// Its comments go with it: those that wait are written first, then the database deletes the row and what refers to it.
pub(crate) async fn delete(State(store): State<Arc<Store>>, Key(id): Key) -> Result<StatusCode, Failure> {
    if store.posts.get(&id).await?.is_none() {
        return Err(Failure::NotFound("post"));
    }
    store.posts.delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
