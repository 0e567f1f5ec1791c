//! The databases under the storm: a table or collection of their own, and what they remember of every change.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Document, doc};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use write_behind::sql::SqlOptions;
use write_behind::sql::sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use write_behind::{MongoSink, SinkError, SqlEntity, SqlSink, create_table};

use crate::item::{Item, Noted, note};
use crate::oracle::Change;

/// A database of one test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Target {
    /// URL of PostgreSQL, with the database.
    Postgres(String),
    /// URL of a replica set, and the database.
    Mongo(String, String),
}

/// Filled by a trigger. A row of `items` is locked until its change is committed, so that the changes of a key have the
/// order of their commits.
const AUDIT: &str = "
    CREATE TABLE audit (n bigserial PRIMARY KEY, id bigint NOT NULL, seq bigint, note text, tx bigint NOT NULL DEFAULT txid_current(),
        who text NOT NULL DEFAULT current_setting('application_name'));
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'DELETE' THEN INSERT INTO audit (id) VALUES (OLD.id);
        ELSE INSERT INTO audit (id, seq, note) VALUES (NEW.id, NEW.seq, NEW.note); END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION audit();";

/// What a database remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Every change, in its order.
    pub(crate) changes: Vec<Change>,
    /// Transactions that changed anything.
    pub(crate) transactions: usize,
    /// What is there now.
    pub(crate) rows: BTreeMap<i64, Item>,
    /// States without the note that belongs to their key.
    pub(crate) stripped: Vec<String>,
}

impl Target {
    /// Makes a database of this name on a server, ready for the actors.
    pub(crate) async fn create(server: &str, name: &str) -> Self {
        if server.starts_with("mongodb") {
            return Self::Mongo(server.to_owned(), name.to_owned());
        }
        let db = Database::connect(server).await.unwrap();
        db.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        let url = format!("{base}/{name}");
        let db = Database::connect(&url).await.unwrap();
        create_table::<Noted>(&db).await.unwrap();
        db.execute_unprepared(AUDIT).await.unwrap();
        db.close().await.unwrap();
        Self::Postgres(url)
    }

    /// Removes the database from a shared server.
    pub(crate) async fn remove(&self, server: &str) {
        match self {
            Self::Postgres(url) => {
                let name = url.rsplit('/').next().unwrap();
                let db = Database::connect(server).await.unwrap();
                db.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
            }
            Self::Mongo(url, name) => client(url).await.database(name).drop().await.unwrap(),
        }
    }

    /// The same database behind a wire.
    pub(crate) fn behind(&self, wire: &str) -> Self {
        match self {
            Self::Postgres(url) => {
                let name = url.rsplit('/').next().unwrap();
                let (base, _) = wire.rsplit_once('/').unwrap();
                Self::Postgres(format!("{base}/{name}"))
            }
            Self::Mongo(_, name) => {
                // A driver that discovers the set would go around the wire.
                let (base, _) = wire.split_once("/?").unwrap();
                Self::Mongo(format!("{base}/?directConnection=true&serverSelectionTimeoutMS=2000"), name.clone())
            }
        }
    }

    /// All that the database remembers.
    pub(crate) async fn memory(&self) -> Memory {
        match self {
            Self::Postgres(url) => {
                let db = Database::connect(url).await.unwrap();
                let memory = postgres(&db).await;
                db.close().await.unwrap();
                memory
            }
            Self::Mongo(url, name) => mongo(url, name).await,
        }
    }

    /// The rows that are there now.
    pub(crate) async fn rows(&self) -> BTreeMap<i64, Item> {
        match self {
            Self::Postgres(url) => {
                let db = Database::connect(url).await.unwrap();
                let rows = postgres_rows(&db).await;
                db.close().await.unwrap();
                rows
            }
            Self::Mongo(url, name) => mongo_rows(url, name).await,
        }
    }
}

/// The sink of an actor.
pub(crate) async fn sql_sink(url: &str) -> Result<SqlSink, SinkError> {
    SqlSink::connect_with(url, SqlOptions::new().connect_timeout(Duration::from_secs(2)).max_connections(4)).await
}

pub(crate) async fn mongo_sink(url: &str, name: &str) -> Result<MongoSink, SinkError> {
    Ok(MongoSink::connect(url, name).await?.command_timeout(Duration::from_secs(5)))
}

/// A gate before the rows of a PostgreSQL target: while it is closed, statements that write wait inside of their
/// transactions.
pub(crate) struct Gate(DatabaseConnection);

impl Gate {
    pub(crate) async fn closed(url: &str) -> Self {
        // One connection: the lock belongs to it.
        let db = Database::connect(ConnectOptions::new(url).max_connections(1).to_owned()).await.unwrap();
        let gate = "
            CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL;
            END $$;
            CREATE TRIGGER gate BEFORE INSERT OR UPDATE OR DELETE ON items FOR EACH STATEMENT EXECUTE FUNCTION gate();
            SELECT pg_advisory_lock(1);";
        db.execute_unprepared(gate).await.unwrap();
        Self(db)
    }

    pub(crate) async fn open(&self) {
        self.0.execute_unprepared("SELECT pg_advisory_unlock(1)").await.unwrap();
    }

    /// Whether a statement waits.
    pub(crate) async fn is_waited_for(&self) -> bool {
        self.any(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM \
                  pg_database WHERE datname = current_database())",
        )
        .await
    }

    /// Whether somebody has an open transaction and sends nothing.
    pub(crate) async fn is_passed(&self) -> bool {
        self.any("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")
            .await
    }

    async fn any(&self, query: &str) -> bool {
        let query = Statement::from_string(self.0.get_database_backend(), query);
        !self.0.query_all_raw(query).await.unwrap().is_empty()
    }
}

async fn postgres(db: &DatabaseConnection) -> Memory {
    let query = "SELECT id, seq, note, tx, who FROM audit ORDER BY n";
    let found = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap();
    let mut transactions = std::collections::BTreeSet::new();
    let (mut changes, mut stripped) = (Vec::with_capacity(found.len()), Vec::new());
    for row in found {
        let change = Change { key: row.try_get("", "id").unwrap(), seq: row.try_get("", "seq").unwrap() };
        let found: Option<String> = row.try_get("", "note").unwrap();
        if change.seq.is_some() && note(change.key).is_some_and(|note| found.as_ref() != Some(&note)) {
            let who: String = row.try_get("", "who").unwrap();
            stripped.push(format!("{change:?} has the note {found:?}, written by {who}"));
        }
        changes.push(change);
        transactions.insert(row.try_get::<i64>("", "tx").unwrap());
    }
    Memory { changes, transactions: transactions.len(), rows: postgres_rows(db).await, stripped }
}

async fn postgres_rows(db: &DatabaseConnection) -> BTreeMap<i64, Item> {
    let query = Statement::from_string(db.get_database_backend(), "SELECT id, seq, payload FROM items");
    let rows = db.query_all_raw(query).await.unwrap();
    rows.iter().map(|row| Item::from_row(row).unwrap()).map(|item| (item.id, item)).collect()
}

async fn client(url: &str) -> mongodb::Client {
    mongodb::Client::with_uri_str(url).await.unwrap()
}

async fn mongo_rows(url: &str, name: &str) -> BTreeMap<i64, Item> {
    let items = client(url).await.database(name).collection::<Item>("items");
    let found: Vec<Item> = items.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    found.into_iter().map(|item| (item.id, item)).collect()
}

/// The log of the replica set has every change in the order of the commits.
async fn mongo(url: &str, name: &str) -> Memory {
    let mut memory = Memory { rows: mongo_rows(url, name).await, ..Memory::default() };
    let noted = client(url).await.database(name).collection::<Noted>("items");
    let mut noted = noted.find(doc! {}).await.unwrap();
    while let Some(row) = noted.try_next().await.unwrap() {
        if note(row.id).is_some_and(|note| row.note.as_ref() != Some(&note)) {
            memory.stripped.push(format!("{row:?}"));
        }
    }
    let space = format!("{name}.items");
    let oplog = client(url).await.database("local").collection::<Document>("oplog.rs");
    let ours = doc! { "$or": [{ "ns": &space }, { "o.applyOps.ns": &space }] };
    let mut entries = oplog.find(ours).sort(doc! { "$natural": 1 }).await.unwrap();
    while let Some(entry) = entries.try_next().await.unwrap() {
        let before = memory.changes.len();
        match entry.get_document("o").and_then(|o| o.get_array("applyOps")) {
            Ok(list) => {
                let list = list.iter().filter_map(bson::Bson::as_document);
                memory.changes.extend(list.filter_map(|entry| change(entry, &space)));
            }
            Err(_) => memory.changes.extend(change(&entry, &space)),
        }
        memory.transactions += usize::from(memory.changes.len() > before);
    }
    memory
}

/// An insert, update or delete of the log; `None` for others and for updates that leave the number as it is.
fn change(entry: &Document, space: &str) -> Option<Change> {
    if entry.get_str("ns").ok() != Some(space) {
        return None;
    }
    let o = entry.get_document("o").ok()?;
    let id = |document: &Document| document.get_i64("_id").unwrap();
    match entry.get_str("op").ok()? {
        "d" => Some(Change { key: id(o), seq: None }),
        "i" => Some(Change { key: id(o), seq: Some(o.get_i64("seq").unwrap()) }),
        "u" => {
            // A whole document, or what is different in it.
            let changed = match o.get_document("diff") {
                Ok(diff) => diff.get_document("u").ok()?.get_i64("seq"),
                Err(_) => o.get_i64("seq"),
            };
            Some(Change { key: id(entry.get_document("o2").unwrap()), seq: Some(changed.unwrap()) })
        }
        _ => None,
    }
}
