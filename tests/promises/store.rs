//! A database of its own for each test, and its rows as nobody but the database tells them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use write_behind::sql::sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use write_behind::testing::ScriptedSink;
use write_behind::{Id, MongoSink, Sink, SqlOptions, SqlSink};
use write_behind_tests::{server, unique};

use crate::account::Account;
use crate::violation::Violation;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Mariadb,
    Sqlite,
    Mongo,
    /// In memory; fences, and knows no constraints.
    Scripted,
}

/// States by key.
pub(crate) type Rows = BTreeMap<i64, i64>;

pub(crate) struct Store {
    pub(crate) kind: Kind,
    /// Where a sink connects.
    url: String,
    name: String,
    inside: Inside,
}

enum Inside {
    Sql { db: DatabaseConnection, server: Option<DatabaseConnection>, file: Option<PathBuf> },
    Mongo { client: Client },
    Scripted(ScriptedSink<Account>),
}

/// The same URL with another database.
fn on_database(url: &str, name: &str) -> String {
    url.rsplit_once('/').map_or_else(|| url.to_owned(), |(server, _)| format!("{server}/{name}"))
}

impl Store {
    /// `None` where the server is not there and need not be.
    pub(crate) async fn open(kind: Kind) -> Result<Option<Self>, Violation> {
        let name = unique("promise");
        let variable = match kind {
            Kind::Postgres => "WB_POSTGRES_URL",
            Kind::Mariadb => "WB_MYSQL_URL",
            Kind::Mongo => "WB_MONGO_URL",
            Kind::Sqlite => {
                let file = std::env::temp_dir().join(format!("{name}.db"));
                let url = format!("sqlite://{}?mode=rwc", file.display());
                let inside = Inside::Sql { db: Database::connect(&url).await?, server: None, file: Some(file) };
                return Self { kind, url, name, inside }.furnished().await.map(Some);
            }
            Kind::Scripted => {
                let inside = Inside::Scripted(ScriptedSink::new());
                return Ok(Some(Self { kind, url: String::new(), name, inside }));
            }
        };
        let Some(server) = server(variable) else { return Ok(None) };
        let (url, inside) = if kind == Kind::Mongo {
            let client = Client::with_uri_str(&server).await?;
            (server, Inside::Mongo { client })
        } else {
            let url = on_database(&server, &name);
            let server = Database::connect(&server).await?;
            server.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
            (url.clone(), Inside::Sql { db: Database::connect(&url).await?, server: Some(server), file: None })
        };
        Self { kind, url, name, inside }.furnished().await.map(Some)
    }

    async fn furnished(self) -> Result<Self, Violation> {
        self.create_table().await?;
        Ok(self)
    }

    /// The table or collection, which refuses states below zero.
    pub(crate) async fn create_table(&self) -> Result<(), Violation> {
        match &self.inside {
            Inside::Sql { db, .. } => {
                let columns = "id BIGINT PRIMARY KEY, owner VARCHAR(200) NOT NULL, state BIGINT NOT NULL";
                let text = format!("CREATE TABLE promise_accounts ({columns}, CHECK (state >= 0))");
                db.execute_unprepared(&text).await?;
            }
            Inside::Mongo { client } => {
                let create = doc! { "create": "promise_accounts", "validator": { "state": { "$gte": 0 } } };
                client.database(&self.name).run_command(create).await?;
            }
            Inside::Scripted(_) => {}
        }
        Ok(())
    }

    pub(crate) async fn drop_table(&self) -> Result<(), Violation> {
        match &self.inside {
            Inside::Sql { db, .. } => _ = db.execute_unprepared("DROP TABLE promise_accounts").await?,
            Inside::Mongo { client } => self.accounts(client).drop().await?,
            Inside::Scripted(_) => {}
        }
        Ok(())
    }

    fn accounts(&self, client: &Client) -> mongodb::Collection<Document> {
        client.database(&self.name).collection("promise_accounts")
    }

    /// A sink with connections of its own, as another process has them.
    pub(crate) async fn sink(&self) -> Result<Arc<dyn Sink<Account>>, Violation> {
        self.address().sink().await
    }

    /// What it takes to connect.
    pub(crate) fn address(&self) -> Address {
        let scripted = match &self.inside {
            Inside::Scripted(sink) => Some(sink.clone()),
            _ => None,
        };
        Address { kind: self.kind, url: self.url.clone(), name: self.name.clone(), scripted }
    }

    /// Puts a row in past the framework.
    pub(crate) async fn set(&self, id: i64, state: i64) -> Result<(), Violation> {
        let Account { owner, .. } = Account::new(id, state);
        match &self.inside {
            Inside::Sql { db, .. } => {
                let owner = owner.replace('\'', "''").replace('\\', "/");
                let text = format!("INSERT INTO promise_accounts (id, owner, state) VALUES ({id}, '{owner}', {state})");
                db.execute_unprepared(&text).await?;
            }
            Inside::Mongo { client } => {
                let row = doc! { "_id": id, "id": id, "owner": owner, "state": state };
                self.accounts(client).insert_one(row).await?;
            }
            Inside::Scripted(sink) => sink.set_row(Id::of(&id)?, Account::new(id, state)),
        }
        Ok(())
    }

    /// All rows, as they are at one instant.
    pub(crate) async fn rows(&self) -> Result<Rows, Violation> {
        match &self.inside {
            Inside::Sql { db, .. } => {
                let text = "SELECT id, state FROM promise_accounts";
                let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), text)).await?;
                rows.iter().map(|row| Ok((row.try_get("", "id")?, row.try_get("", "state")?))).collect()
            }
            Inside::Mongo { client } => {
                // A cursor reads while others write; a snapshot does not.
                let mut session = client.start_session().snapshot(true).await?;
                let mut found = self.accounts(client).find(doc! {}).session(&mut session).await?;
                let rows: Vec<Document> = found.stream(&mut session).try_collect().await?;
                rows.iter().map(|row| Ok((row.get_i64("_id")?, row.get_i64("state")?))).collect()
            }
            Inside::Scripted(sink) => Ok(sink.rows().into_values().map(|row| (row.id, row.state)).collect()),
        }
    }

    /// Removes everything.
    pub(crate) async fn close(self) -> Result<(), Violation> {
        match self.inside {
            Inside::Sql { db, server, file } => {
                db.close().await?;
                if let Some(server) = server {
                    // The connections of engines that were dropped may still be there.
                    let force = if self.kind == Kind::Postgres { " WITH (FORCE)" } else { "" };
                    server.execute_unprepared(&format!("DROP DATABASE {}{force}", self.name)).await?;
                }
                for suffix in ["", "-wal", "-shm"] {
                    let _ = file.as_ref().map(|file| std::fs::remove_file(format!("{}{suffix}", file.display())));
                }
            }
            Inside::Mongo { client } => client.database(&self.name).drop().await?,
            Inside::Scripted(_) => {}
        }
        Ok(())
    }
}

/// Where a sink connects.
#[derive(Clone)]
pub(crate) struct Address {
    kind: Kind,
    pub(crate) url: String,
    name: String,
    scripted: Option<ScriptedSink<Account>>,
}

impl Address {
    pub(crate) async fn sink(&self) -> Result<Arc<dyn Sink<Account>>, Violation> {
        Ok(match (self.kind, &self.scripted) {
            (_, Some(sink)) => Arc::new(sink.clone()),
            (Kind::Mongo, _) => Arc::new(MongoSink::connect(&self.url, &self.name).await?),
            _ => Arc::new(SqlSink::connect_with(&self.url, SqlOptions::new().max_connections(4)).await?),
        })
    }
}
