//! The databases that the tests run on.

use std::path::PathBuf;

use write_behind::{SqlOptions, SqlSink};

/// A sink on a database, and what of it must be cleaned up.
pub(crate) struct Database {
    pub(crate) sink: SqlSink,
    url: String,
    files: Option<PathBuf>,
}

impl Database {
    /// The same database over new connections, which know no earlier definition of a table.
    pub(crate) async fn anew(&self) -> SqlSink {
        SqlSink::connect_with(&self.url, SqlOptions::new().max_connections(2)).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(folder) = &self.files {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// The URL in `variable`; without it the test is skipped, unless servers are required.
pub(crate) fn server(variable: &str) -> Option<String> {
    let set = |name| std::env::var(name).is_ok_and(|value| value == "1" || value == "true");
    match std::env::var(variable) {
        Ok(url) => Some(url),
        Err(_) if set("WB_REQUIRE_SERVERS") || set("CI") => panic!("{variable} is not set"),
        Err(_) => {
            eprintln!("skipped: {variable} is not set");
            None
        }
    }
}

pub(crate) async fn postgres() -> Option<Database> {
    on_server("WB_POSTGRES_URL").await
}

pub(crate) async fn mysql() -> Option<Database> {
    on_server("WB_MYSQL_URL").await
}

async fn on_server(variable: &str) -> Option<Database> {
    let options = SqlOptions::new().max_connections(4);
    let url = server(variable)?;
    let sink = SqlSink::connect_with(&url, options).await.unwrap();
    Some(Database { sink, url, files: None })
}

pub(crate) async fn sqlite() -> Option<Database> {
    let folder = std::env::temp_dir().join(format!("wb-sql-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.join("test.db").display());
    let sink = SqlSink::connect(&url).await.unwrap();
    Some(Database { sink, url, files: Some(folder) })
}

/// Makes a test per database of each `async fn name(database: Database)`.
macro_rules! on_every_database {
    ($($name:ident),* $(,)?) => {
        on_every_database!(@ postgres $($name)*);
        on_every_database!(@ mysql $($name)*);
        on_every_database!(@ sqlite $($name)*);
    };
    (@ $database:ident $($name:ident)*) => {
        mod $database {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Some(database) = $crate::databases::$database().await {
                        super::$name(database).await;
                    }
                }
            )*
        }
    };
}
