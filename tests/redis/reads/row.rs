//! Rows that somebody changes in the database itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use write_behind::sql::sea_orm::{ConnectionTrait, DbBackend, Statement};
use write_behind::{Engine, EntityOptions, NearCache, RedisBuffer, SqlSink, State, WriteBehind, create_table};
use write_behind_tests::{redis_url, unique};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "article", table = "articles")]
struct Article {
    #[wb(key)]
    id: i64,
    title: String,
}

#[tokio::test]
async fn a_row_that_was_changed_in_the_database_is_seen_after_a_refresh() {
    let Some(url) = redis_url() else { return };
    let folder = std::env::temp_dir().join(unique("wb_reads"));
    std::fs::create_dir(&folder).unwrap();
    let sink = SqlSink::connect(&format!("sqlite://{}?mode=rwc", folder.join("test.db").display())).await.unwrap();
    create_table::<Article>(sink.db()).await.unwrap();
    let db = sink.db().clone();
    let change = async |title: &str| {
        let text = format!("UPDATE articles SET title = '{title}' WHERE id = 1");
        db.execute_raw(Statement::from_string(DbBackend::Sqlite, text)).await.unwrap();
    };
    let options = EntityOptions::new().near_cache(NearCache::new(100).max_age(Duration::from_secs(600)));
    let engine = Engine::builder(RedisBuffer::connect(&url).await.unwrap())
        .namespace(unique("row"))
        .entity::<Article>(sink, options)
        .start()
        .await
        .unwrap();
    let articles = engine.cache::<Article>().unwrap();
    let title = |article: Option<Article>| article.map(|article| article.title);
    articles.put(&Article { id: 1, title: "first".into() }).await.unwrap();
    assert_eq!(articles.state(&1).await.unwrap(), State::Dirty);
    articles.flush().await.unwrap();
    assert_eq!(articles.state(&1).await.unwrap(), State::Clean);
    change("second").await;
    assert_eq!(title(articles.get(&1).await.unwrap()), Some("first".into()), "from its copy");
    assert_eq!(title(articles.refresh(&1).await.unwrap()), Some("second".into()));
    assert_eq!(title(articles.get(&1).await.unwrap()), Some("second".into()));
    change("third").await;
    assert!(articles.invalidate(&1).await.unwrap());
    assert_eq!(articles.state(&1).await.unwrap(), State::Absent);
    assert_eq!(articles.peek(&1).await.unwrap(), None);
    assert_eq!(title(articles.get(&1).await.unwrap()), Some("third".into()));
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
    let _ = std::fs::remove_dir_all(folder);
}
