//! Opening a database by its URL.

use std::time::Duration;

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use sea_orm::RuntimeErr;
use sea_orm::{ConnectOptions, Database, DbErr};
use url::Url;
use wb_core::{ErrorKind, SinkError};

use crate::classify::from_sea_orm;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use crate::classify::sqlx;
use crate::options::SqlOptions;
use crate::sink::SqlSink;

/// How long a SQLite statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

impl SqlSink {
    /// A sink with the default options: `postgres://`, `mysql://`, `mariadb://` or `sqlite:`.
    ///
    /// Of a server nothing is asked yet: connections are opened when they are needed, the first one by the engine's start. So a
    /// program starts while its database is away; what is wrong (a password, a database that is not there) is the start's error.
    ///
    /// A SQLite database gets write-ahead logging and a busy timeout of 5 s; its file is created when the URL ends in
    /// `?mode=rwc`.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] for a URL that does not parse, and a scheme that is unknown or whose driver is not
    /// compiled in; of SQLite also what is wrong with the file, unless somebody holds its lock. Errors name the URL without its
    /// password.
    pub async fn connect(url: &str) -> Result<Self, SinkError> {
        Self::connect_with(url, SqlOptions::new()).await
    }

    /// The same with other options; see [`connect`](SqlSink::connect).
    ///
    /// # Errors
    /// As for [`connect`](SqlSink::connect).
    pub async fn connect_with(url: &str, options: SqlOptions) -> Result<Self, SinkError> {
        let target = Target::parse(url)?;
        let mut connect = ConnectOptions::new(target.url);
        connect
            .sqlx_logging(false)
            .connect_timeout(options.connect_timeout)
            .acquire_timeout(options.connect_timeout)
            .max_connections(if target.in_memory { 1 } else { options.max_connections })
            .connect_lazy(!target.is_file);
        if target.in_memory {
            // The database is gone when its connection is.
            connect.idle_timeout(None).max_lifetime(None).min_connections(1);
        }
        #[cfg(feature = "sqlite")]
        connect.map_sqlx_sqlite_opts(|sqlite| {
            sqlite.journal_mode(sea_orm::sqlx::sqlite::SqliteJournalMode::Wal).busy_timeout(BUSY_TIMEOUT)
        });
        let shown = &target.shown;
        let limit = options.connect_timeout + Duration::from_millis(250);
        let opened = tokio::time::timeout(limit, Database::connect(connect.clone())).await;
        let opened = match opened {
            Ok(Err(error)) if !is_locked(&error) => Err(error),
            Ok(Ok(db)) => Ok(db),
            // Somebody holds the file's lock, who may let it go.
            Ok(Err(_)) | Err(_) => Database::connect(connect.connect_lazy(true).clone()).await,
        };
        let db = opened.map_err(|error| from_sea_orm(format!("connecting to `{shown}`"), error))?;
        Ok(Self::labelled(db, options, Some(target.shown)))
    }
}

/// Whether a file could not be opened because of its lock: the database said so, or nothing in time.
fn is_locked(error: &DbErr) -> bool {
    match error {
        #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
        DbErr::Conn(RuntimeErr::SqlxError(error)) => {
            sqlx(error) == ErrorKind::Transient || matches!(**error, sea_orm::sqlx::Error::PoolTimedOut)
        }
        _ => false,
    }
}

/// A URL that a compiled driver accepts.
#[derive(Debug)]
struct Target {
    /// What the driver gets.
    url: String,
    /// What errors show.
    shown: String,
    in_memory: bool,
    /// Not a server: what is wrong shows at once.
    is_file: bool,
}

impl Target {
    fn parse(text: &str) -> Result<Self, SinkError> {
        let misconfigured = |text: String| SinkError::new(ErrorKind::Misconfigured, text);
        // The text is not shown: it may hold a password.
        let url =
            Url::parse(text).map_err(|e| misconfigured("the database URL does not parse".into()).with_source(e))?;
        let shown = without_secrets(&url);
        let scheme = url.scheme();
        let (feature, compiled) = match scheme {
            "postgres" | "postgresql" => ("postgres", cfg!(feature = "postgres")),
            "mysql" | "mariadb" => ("mysql", cfg!(feature = "mysql")),
            "sqlite" => ("sqlite", cfg!(feature = "sqlite")),
            _ => {
                return Err(misconfigured(format!(
                    "`{shown}` has the unknown scheme `{scheme}`; use postgres://, mysql://, mariadb:// or sqlite:"
                )));
            }
        };
        if !compiled {
            return Err(misconfigured(format!("`{shown}` needs the cargo feature `{feature}`, which is off")));
        }
        let in_memory = feature == "sqlite" && (text.contains(":memory:") || text.contains("mode=memory"));
        let url = text.strip_prefix("mariadb://").map_or_else(|| text.to_owned(), |rest| format!("mysql://{rest}"));
        Ok(Self { url, shown, in_memory, is_file: feature == "sqlite" })
    }
}

/// The URL without its password and without its query, which may hold another one.
fn without_secrets(url: &Url) -> String {
    if url.cannot_be_a_base() && url.scheme() != "sqlite" {
        // Nothing tells what of it is a password.
        return format!("{}:...", url.scheme());
    }
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // A URL that has no host has no password either.
    let _ = shown.set_password(None);
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "postgres://app:hunter2@db:5432/blog?password=hunter2",
            "oracle://app:hunter2@db/blog",
            "mysql://app:hunter2@db/blog#hunter2",
            "app:hunter2@db/blog",
            "hunter2",
        ] {
            let shown = match Target::parse(url) {
                Ok(target) => target.shown,
                Err(error) => error.chain(),
            };
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        let url = Url::parse("postgres://app:hunter2@db:5432/blog?a=b").unwrap();
        assert_eq!(without_secrets(&url), "postgres://app@db:5432/blog");
    }

    #[test]
    fn an_unknown_scheme_is_misconfigured() {
        let error = Target::parse("oracle://db/blog").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains("unknown scheme `oracle`"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "mysql"))]
    fn a_driver_that_is_off_is_named() {
        let error = Target::parse("mysql://db/blog").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains("feature `mysql`"), "{error}");
    }

    #[test]
    #[cfg(feature = "mysql")]
    fn mariadb_is_mysql() {
        assert_eq!(Target::parse("mariadb://u@db/blog").unwrap().url, "mysql://u@db/blog");
    }

    #[test]
    #[cfg(feature = "sqlite")]
    fn a_database_in_memory_has_one_connection() {
        assert!(Target::parse("sqlite::memory:").unwrap().in_memory);
        assert!(!Target::parse("sqlite://blog.db?mode=rwc").unwrap().in_memory);
    }
}
