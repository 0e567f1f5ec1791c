//! The API over the embedded default, and what arrives in SQLite.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use crate::api::routes;
use crate::store::Store;

/// No flush comes by itself while a test runs.
const NEVER: Duration = Duration::from_secs(3_600);

struct Blog {
    store: Arc<Store>,
    app: Router,
}

impl Blog {
    async fn open(flush_every: Duration) -> Self {
        let store = Arc::new(Store::open(None, "sqlite::memory:", flush_every).await.unwrap());
        Self { app: routes(store.clone()), store }
    }

    async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> Response {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
        self.app.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()
    }

    /// An answer, with null for one without content.
    async fn ask(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = self.send(method, path, body).await;
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let said = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        (status, said)
    }

    /// What an answer of that status says.
    async fn told(&self, status: StatusCode, method: &str, path: &str, body: Value) -> Value {
        let (found, said) = self.ask(method, path, body).await;
        assert_eq!(found, status, "{method} {path}: {said}");
        said
    }

    async fn author(&self, name: &str) -> Value {
        self.told(StatusCode::CREATED, "POST", "/authors", json!({ "name": name })).await
    }

    /// A post of a new author, and its path.
    async fn post(&self) -> (Value, String) {
        let author = self.author("Ada").await;
        let draft = json!({ "author_id": author["id"], "title": "Notes", "body": "On the engine" });
        let post = self.told(StatusCode::CREATED, "POST", "/posts", draft).await;
        let path = format!("/posts/{}", post["id"].as_str().unwrap());
        (post, path)
    }

    async fn flush(&self) {
        self.store.authors.flush().await.unwrap();
        self.store.comments.flush().await.unwrap();
        self.store.posts.flush().await.unwrap();
    }

    fn dead_letters(&self) -> u64 {
        self.store.stats().values().map(|stats| stats.dead_letters).sum()
    }
}

fn key(value: &Value) -> Uuid {
    value["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_is_written_is_in_the_database_after_a_flush() {
    let blog = Blog::open(NEVER).await;
    let (post, path) = blog.post().await;
    let draft = json!({ "author": "Charles", "text": "Quite so" });
    let comment = blog.told(StatusCode::ACCEPTED, "POST", &format!("{path}/comments"), draft).await;
    assert!(blog.store.database().posts().await.unwrap().is_empty(), "nothing was flushed yet");
    let comments = blog.told(StatusCode::OK, "GET", &format!("{path}/comments"), Value::Null).await;
    assert_eq!(comments, json!({ "comments": [], "waiting": 1 }));

    blog.flush().await;
    let stored = blog.store.database().posts().await.unwrap();
    assert_eq!(stored.iter().map(|stored| stored.id).collect::<Vec<_>>(), [key(&post)]);
    assert_eq!(blog.store.database().authors().await.unwrap().len(), 1);
    let comments = blog.told(StatusCode::OK, "GET", &format!("{path}/comments"), Value::Null).await;
    assert_eq!(comments, json!({ "comments": [comment], "waiting": 0 }));
    assert_eq!(blog.dead_letters(), 0);
}

#[tokio::test]
async fn a_thousand_views_at_once_are_all_counted_in_few_rows() {
    let blog = Blog::open(Duration::from_millis(50)).await;
    let (post, path) = blog.post().await;
    blog.flush().await;

    let burst = blog.told(StatusCode::OK, "POST", &format!("{path}/views"), json!({ "count": 1000 })).await;
    assert_eq!((&burst["views"], &burst["writes"]), (&json!(1000), &json!(1000)), "{burst}");
    assert!(burst["persisted_ms"].is_number(), "{burst}");
    assert!(burst["rows"].as_u64().unwrap() < 100, "{burst}");
    let one = blog.told(StatusCode::OK, "POST", &format!("{path}/view"), Value::Null).await;
    assert_eq!(one["views"], 1001);

    blog.flush().await;
    let stored = blog.store.database().posts().await.unwrap();
    assert_eq!(stored.iter().map(|stored| (stored.id, stored.views)).collect::<Vec<_>>(), [(key(&post), 1001)]);
    let stats = blog.told(StatusCode::OK, "GET", "/stats", Value::Null).await;
    assert_eq!(stats["entities"]["post"]["writes"], 1002);
}

#[tokio::test]
async fn a_list_has_what_the_database_has_not_yet() {
    let blog = Blog::open(NEVER).await;
    let (post, path) = blog.post().await;
    blog.told(StatusCode::OK, "POST", &format!("{path}/view"), Value::Null).await;
    let listed = blog.told(StatusCode::OK, "GET", "/posts", Value::Null).await;
    assert_eq!((&listed[0]["id"], &listed[0]["views"]), (&post["id"], &json!(1)));
    assert_eq!(listed[0]["stored_views"], Value::Null);

    blog.flush().await;
    blog.told(StatusCode::OK, "POST", &format!("{path}/view"), Value::Null).await;
    let listed = blog.told(StatusCode::OK, "GET", "/posts", Value::Null).await;
    assert_eq!((&listed[0]["views"], &listed[0]["stored_views"]), (&json!(2), &json!(1)));
    assert!(blog.store.fresh.posts().is_empty());
}

#[tokio::test]
async fn an_edit_and_views_at_the_same_time_are_both_kept() {
    let blog = Blog::open(Duration::from_millis(10)).await;
    let (post, path) = blog.post().await;
    let views = format!("{path}/views");
    let (_, edited) = tokio::join!(
        blog.told(StatusCode::OK, "POST", &views, json!({ "count": 500 })),
        blog.told(StatusCode::OK, "PATCH", &path, json!({ "title": "Notes, revised" })),
    );
    assert_eq!((&edited["title"], &edited["body"]), (&json!("Notes, revised"), &post["body"]));
    let shown = blog.told(StatusCode::OK, "GET", &path, Value::Null).await;
    assert_eq!((&shown["title"], &shown["views"]), (&json!("Notes, revised"), &json!(500)));
}

#[tokio::test]
async fn the_second_of_two_editors_gets_a_conflict() {
    let blog = Blog::open(NEVER).await;
    let author = blog.author("Ada").await;
    let path = format!("/authors/{}", author["id"].as_str().unwrap());
    let renamed = json!({ "name": "Ada Lovelace", "version": author["version"] });
    let first = blog.told(StatusCode::OK, "PUT", &path, renamed).await;
    let late = json!({ "name": "Ada King", "version": author["version"] });
    let conflict = blog.told(StatusCode::CONFLICT, "PUT", &path, late).await;
    assert_eq!(conflict["stored"], first["version"]);

    blog.flush().await;
    let stored = blog.store.database().authors().await.unwrap();
    assert_eq!(stored.iter().map(|author| &*author.name).collect::<Vec<_>>(), ["Ada Lovelace"]);
    let again = json!({ "id": author["id"], "name": "Ada" });
    blog.told(StatusCode::CONFLICT, "POST", "/authors", again).await;
}

#[tokio::test]
async fn a_deleted_post_takes_its_comments_along() {
    let blog = Blog::open(NEVER).await;
    let (post, path) = blog.post().await;
    let comments = format!("{path}/comments");
    blog.told(StatusCode::ACCEPTED, "POST", &comments, json!({ "author": "Charles", "text": "First" })).await;
    blog.flush().await;
    // This one is on its way when its post is deleted.
    blog.told(StatusCode::ACCEPTED, "POST", &comments, json!({ "author": "Charles", "text": "Second" })).await;
    blog.told(StatusCode::NO_CONTENT, "DELETE", &path, Value::Null).await;
    blog.told(StatusCode::NOT_FOUND, "GET", &path, Value::Null).await;
    blog.told(StatusCode::NOT_FOUND, "DELETE", &path, Value::Null).await;
    blog.told(StatusCode::NOT_FOUND, "POST", &comments, json!({ "author": "Charles", "text": "Late" })).await;
    assert_eq!(blog.told(StatusCode::OK, "GET", "/posts", Value::Null).await, json!([]));

    blog.flush().await;
    assert!(blog.store.database().posts().await.unwrap().is_empty());
    assert!(blog.store.database().comments(key(&post)).await.unwrap().is_empty());
    assert_eq!(blog.dead_letters(), 0, "the comment was written before its post was deleted");
}

#[tokio::test]
async fn bad_input_is_refused_before_it_is_stored() {
    let blog = Blog::open(NEVER).await;
    let nobody = "00000000-0000-0000-0000-000000000000";
    let bad = StatusCode::BAD_REQUEST;
    for (status, method, path, body) in [
        (bad, "POST", "/authors", json!({ "name": "  " })),
        (bad, "POST", "/authors", json!({ "name": "a".repeat(81) })),
        (bad, "POST", "/authors", json!({ "name": "Ada\0" })),
        (bad, "POST", "/authors", json!({ "name": "Ada", "admin": true })),
        (bad, "POST", "/authors", json!({ "name": 7 })),
        (bad, "POST", "/authors", Value::Null),
        (bad, "POST", "/posts", json!({ "author_id": nobody, "title": "Notes", "body": "On" })),
        (bad, "GET", "/posts/seven", Value::Null),
        (bad, "PATCH", &format!("/posts/{nobody}"), json!({})),
        (bad, "PATCH", &format!("/posts/{nobody}"), json!({ "views": 1_000_000 })),
        (bad, "POST", &format!("/posts/{nobody}/views"), json!({ "count": 0 })),
        (bad, "POST", &format!("/posts/{nobody}/views"), json!({ "count": 10_001 })),
        (StatusCode::NOT_FOUND, "GET", &format!("/posts/{nobody}"), Value::Null),
        (StatusCode::NOT_FOUND, "PATCH", &format!("/posts/{nobody}"), json!({ "title": "Notes" })),
        (StatusCode::NOT_FOUND, "POST", &format!("/posts/{nobody}/view"), Value::Null),
        (StatusCode::NOT_FOUND, "POST", &format!("/posts/{nobody}/views"), json!({ "count": 2 })),
        (StatusCode::NOT_FOUND, "GET", &format!("/posts/{nobody}/comments"), Value::Null),
        (StatusCode::NOT_FOUND, "PUT", &format!("/authors/{nobody}"), json!({ "name": "Ada", "version": 1 })),
        (StatusCode::NOT_FOUND, "GET", "/nowhere", Value::Null),
        (StatusCode::METHOD_NOT_ALLOWED, "DELETE", "/stats", Value::Null),
    ] {
        let said = blog.told(status, method, path, body).await;
        assert!(said["error"].is_string(), "{method} {path}: {said}");
    }
    let writes: u64 = blog.store.stats().values().map(|stats| stats.puts).sum();
    assert_eq!(writes, 0);
}

#[tokio::test]
async fn the_page_may_load_nothing_from_elsewhere() {
    let blog = Blog::open(NEVER).await;
    let response = blog.send("GET", "/", Body::empty()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
    let page = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let page = str::from_utf8(&page).unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"));
}

#[tokio::test]
async fn the_stream_of_events_has_live_counts_and_what_the_engine_does_and_ends_with_the_program() {
    let blog = Blog::open(NEVER).await;
    let (post, path) = blog.post().await;
    blog.told(StatusCode::OK, "POST", &format!("{path}/view"), Value::Null).await;
    let events = blog.send("GET", "/events", Body::empty()).await.into_body().into_data_stream();
    let mut events = pin!(events.map(|event| named(&event.unwrap())));
    let tick = heard(&mut events, "tick").await;
    assert_eq!(tick["posts"], json!([{ "id": post["id"], "views": 1, "stored_views": null }]));
    blog.flush().await;
    let told = heard(&mut events, "engine").await;
    assert!(told["text"].as_str().unwrap().starts_with("author: 1 row written in "), "{told}");

    blog.store.leave();
    let rest = tokio::time::timeout(Duration::from_secs(10), events.collect::<Vec<_>>()).await;
    assert!(rest.is_ok(), "the stream ends");
}

/// What the next event of that name says.
async fn heard(events: &mut (impl Stream<Item = (String, Value)> + Unpin), name: &str) -> Value {
    let mut heard = events.filter(|event| ready(event.0 == name));
    tokio::time::timeout(Duration::from_secs(10), heard.next()).await.unwrap().unwrap().1
}

/// The name of a server-sent event, and what it says.
fn named(event: &[u8]) -> (String, Value) {
    let text = str::from_utf8(event).unwrap();
    let (name, data) = text.trim_end().split_once("\ndata: ").unwrap();
    (name.strip_prefix("event: ").unwrap().to_owned(), serde_json::from_str(data).unwrap())
}

#[tokio::test]
async fn a_shutdown_flushes_and_refuses_what_comes_after_it() {
    let blog = Blog::open(NEVER).await;
    let (_, path) = blog.post().await;
    let drained = blog.store.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!((drained.flushed, drained.remaining), (2, 0));
    blog.told(StatusCode::SERVICE_UNAVAILABLE, "POST", &format!("{path}/view"), Value::Null).await;
}
