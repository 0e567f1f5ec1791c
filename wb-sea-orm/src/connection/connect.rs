//! Opening a database by its URL.

use std::fmt;
use std::time::Duration;

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use sea_orm::RuntimeErr;
#[cfg(feature = "postgres")]
use sea_orm::sqlx::postgres::PgConnectOptions;
#[cfg(feature = "sqlite")]
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
#[cfg(feature = "mysql")]
use sea_orm::sqlx::{AssertSqlSafe, mysql::MySqlConnectOptions};
use sea_orm::{ConnectOptions, Database, DbErr};
#[cfg(feature = "postgres")]
use url::Url;
use wb_core::{Address, ErrorKind, SinkError};

use crate::connection::error::from_sea_orm;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use crate::connection::error::sqlx;
#[cfg(feature = "mysql")]
use crate::connection::session;
use crate::options::SqlOptions;
use crate::sink::SqlSink;

/// How long a SQLite statement waits for another process's lock.
#[cfg(feature = "sqlite")]
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
    /// [`ErrorKind::Misconfigured`] for a URL that does not parse or is [ambiguous](Address::ambiguity), and a scheme that is unknown or
    /// whose driver is not compiled in; of SQLite also what is wrong with the file, unless somebody holds its lock. Of the URL only what
    /// [`Address`] shows is named.
    pub async fn connect(url: &str) -> Result<Self, SinkError> {
        Self::connect_with(url, SqlOptions::new()).await
    }

    /// The same with other options; see [`connect`](SqlSink::connect).
    ///
    /// # Errors
    /// As for [`connect`](SqlSink::connect).
    pub async fn connect_with(url: &str, options: SqlOptions) -> Result<Self, SinkError> {
        let target = Target::parse(url)?;
        let mut connect = target.options();
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
        let limit = options.connect_timeout + Duration::from_millis(250);
        let opened = tokio::time::timeout(limit, Database::connect(connect.clone())).await;
        let opened = match opened {
            Ok(Err(error)) if !is_locked(&error) => Err(error),
            Ok(Ok(db)) => Ok(db),
            // Somebody holds the file's lock, who may let it go.
            Ok(Err(_)) | Err(_) => Database::connect(connect.connect_lazy(true).clone()).await,
        };
        let db = opened.map_err(|error| target.refused(error))?;
        Ok(Self::labelled(db, options, Some(target.address.to_string())))
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

/// Options of a URL that the driver of PostgreSQL knows. It logs the others with their values.
#[cfg(feature = "postgres")]
const POSTGRES_OPTIONS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// A URL that a compiled driver accepts.
struct Target {
    /// What errors show.
    address: Address,
    login: Login,
    in_memory: bool,
    /// Not a server: what is wrong shows at once.
    is_file: bool,
}

/// What the driver connects with. SeaORM gets no URL: it quotes URLs in its errors, and logs them.
#[derive(Clone)]
enum Login {
    #[cfg(feature = "postgres")]
    Postgres(PgConnectOptions),
    #[cfg(feature = "mysql")]
    Mysql(MySqlConnectOptions),
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteConnectOptions),
    /// Without any driver there is nobody to connect.
    #[cfg(not(any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
    Nobody,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.address).finish()
    }
}

fn misconfigured(text: impl Into<String>) -> SinkError {
    SinkError::new(ErrorKind::Misconfigured, text)
}

impl Target {
    fn parse(text: &str) -> Result<Self, SinkError> {
        let address = Address::new(text);
        if let Some(why) = address.ambiguity() {
            return Err(misconfigured(format!("cannot use the database URL {address}: {why}")));
        }
        let text = text.trim();
        let rest = text.split_once(':').map_or("", |(_, rest)| rest);
        let login = match address.scheme() {
            Some("postgres" | "postgresql") => Login::postgres(rest, &address)?,
            // To the driver MariaDB is MySQL.
            Some("mysql" | "mariadb") => Login::mysql(rest, &address)?,
            Some("sqlite") => Login::sqlite(rest, &address)?,
            // What stands there may be no scheme, but a user or a password.
            _ => {
                return Err(misconfigured(
                    "the database URL has to begin with postgres://, mysql://, mariadb:// or sqlite:",
                ));
            }
        };
        let is_file = address.scheme() == Some("sqlite");
        let in_memory = is_file && (text.contains(":memory:") || text.contains("mode=memory"));
        Ok(Self { address, login, in_memory, is_file })
    }

    /// SeaORM's options for this driver.
    fn options(&self) -> ConnectOptions {
        match self.login.clone() {
            #[cfg(feature = "postgres")]
            Login::Postgres(login) => {
                let mut options = ConnectOptions::new("postgres://");
                options.map_sqlx_postgres_opts(move |_| login.clone());
                options
            }
            #[cfg(feature = "mysql")]
            Login::Mysql(login) => {
                let mut options = ConnectOptions::new("mysql://");
                options.map_sqlx_mysql_opts(move |_| login.clone()).map_sqlx_mysql_pool_opts(|pool| {
                    pool.after_connect(|connection, _| {
                        Box::pin(async move {
                            let text = AssertSqlSafe(session::open_mysql());
                            sea_orm::sqlx::Executor::execute(connection, text).await.map(drop)
                        })
                    })
                });
                options
            }
            #[cfg(feature = "sqlite")]
            Login::Sqlite(login) => {
                let mut options = ConnectOptions::new("sqlite::memory:");
                options.map_sqlx_sqlite_opts(move |_| {
                    login.clone().journal_mode(SqliteJournalMode::Wal).busy_timeout(BUSY_TIMEOUT)
                });
                options
            }
            #[cfg(not(any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
            Login::Nobody => ConnectOptions::new(""),
        }
    }

    /// The driver's error, where it does not quote what must not be shown.
    fn refused(&self, error: DbErr) -> SinkError {
        let quotes = self.address.unless_quoted(&error).is_none();
        let connecting = format!("connecting to {}", self.address);
        let error = from_sea_orm(&connecting, error);
        if quotes { SinkError::new(error.kind(), format!("{connecting}: {QUOTED}")) } else { error }
    }
}

const QUOTED: &str = "the driver refuses it, and says why with parts of the URL that are not shown";

/// The options of a driver, by what it reads of a URL.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
fn read<T>(url: &str, address: &Address) -> Result<T, SinkError>
where
    T: std::str::FromStr<Err = sea_orm::sqlx::Error> + sea_orm::sqlx::ConnectOptions,
{
    let refused = |error| match address.unless_quoted(&error) {
        Some(_) => misconfigured(format!("cannot use the database URL {address}")).with_source(error),
        None => misconfigured(format!("cannot use the database URL {address}: {QUOTED}")),
    };
    Ok(url.parse::<T>().map_err(refused)?.disable_statement_logging())
}

#[cfg(not(all(feature = "postgres", feature = "mysql", feature = "sqlite")))]
fn switched_off(feature: &str, address: &Address) -> SinkError {
    misconfigured(format!("{address} needs the cargo feature `{feature}`, which is off"))
}

impl Login {
    #[cfg(feature = "postgres")]
    fn postgres(rest: &str, address: &Address) -> Result<Self, SinkError> {
        let text = format!("postgres:{rest}");
        let Ok(mut url) = Url::parse(&text) else { return read(&text, address).map(Self::Postgres) };
        let is_known = |name: &str| POSTGRES_OPTIONS.contains(&name) || name.starts_with("options[");
        let unknown = url.query_pairs().filter(|(name, _)| !is_known(name)).count();
        if unknown > 0 {
            tracing::warn!(%address, unknown, "the driver does not know options of the database URL, which are ignored");
            let known: Vec<_> = url.query_pairs().filter(|(name, _)| is_known(name)).collect();
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(known).finish();
            url.set_query(Some(&query));
        }
        read(url.as_str(), address).map(Self::Postgres)
    }

    #[cfg(not(feature = "postgres"))]
    fn postgres(_: &str, address: &Address) -> Result<Self, SinkError> {
        Err(switched_off("postgres", address))
    }

    #[cfg(feature = "mysql")]
    fn mysql(rest: &str, address: &Address) -> Result<Self, SinkError> {
        read(&format!("mysql:{rest}"), address).map(Self::Mysql)
    }

    #[cfg(not(feature = "mysql"))]
    fn mysql(_: &str, address: &Address) -> Result<Self, SinkError> {
        Err(switched_off("mysql", address))
    }

    #[cfg(feature = "sqlite")]
    fn sqlite(rest: &str, address: &Address) -> Result<Self, SinkError> {
        read(&format!("sqlite:{rest}"), address).map(Self::Sqlite)
    }

    #[cfg(not(feature = "sqlite"))]
    fn sqlite(_: &str, address: &Address) -> Result<Self, SinkError> {
        Err(switched_off("sqlite", address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "postgres://app:hunter2@db:5432/blog?password=hunter2",
            "postgres://db/blog?sslmode=hunter2",
            "oracle://app:hunter2@db/blog",
            "mysql://app:hunter2@db/blog#hunter2",
            "MariaDB://app:hunter2@db/blog",
            "postgres://app:12/hunter2@db/blog",
            "sqlite:blog.db?mode=hunter2",
            "app:hunter2@db/blog",
            "hunter2",
        ] {
            let shown = match Target::parse(url) {
                Ok(target) => format!("{target:?} {:?}", target.options()),
                Err(error) => format!("{} {error:?}", error.chain()),
            };
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    #[cfg(all(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    fn the_driver_gets_all_that_the_url_says() {
        for (text, host, port, user, database) in [
            ("postgres://app:a%2Fb@db:6/blog?sslmode=require", "db", 6, "app", Some("blog")),
            ("PostgreSQL://db/blog?channel_binding=require&user=a%26b", "db", 5432, "a&b", Some("blog")),
            ("postgres:///blog?host=other&port=7&user=app", "other", 7, "app", Some("blog")),
        ] {
            let Login::Postgres(login) = Target::parse(text).unwrap().login else { panic!("{text}") };
            let found = (login.get_host(), login.get_port(), login.get_username(), login.get_database());
            assert_eq!(found, (host, port, user, database), "{text}");
        }
        for text in ["mysql://app@db/blog", " MariaDB://app:p@ss@db/blog"] {
            assert!(matches!(Target::parse(text).unwrap().login, Login::Mysql(_)), "{text}");
        }
        let Login::Sqlite(login) = Target::parse("SQLite://data/blog.db?mode=rwc").unwrap().login else {
            panic!("a file")
        };
        assert_eq!(login.get_filename(), std::path::Path::new("data/blog.db"));
        let error = Target::parse("postgres://app:%FF@db/blog").unwrap_err();
        assert!(error.kind() == ErrorKind::Misconfigured, "{error}");
    }

    #[test]
    fn an_unknown_scheme_is_misconfigured() {
        let error = Target::parse("oracle://db/blog").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains("has to begin with postgres://"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "mysql"))]
    fn a_driver_that_is_off_is_named() {
        let error = Target::parse("mysql://db/blog").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains("feature `mysql`"), "{error}");
    }

    #[test]
    #[cfg(feature = "sqlite")]
    fn a_database_in_memory_has_one_connection() {
        assert!(Target::parse("sqlite::memory:").unwrap().in_memory);
        assert!(!Target::parse("sqlite://blog.db?mode=rwc").unwrap().in_memory);
    }
}
