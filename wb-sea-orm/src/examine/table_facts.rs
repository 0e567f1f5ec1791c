//! What the sink must know of a table before it writes to it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use sea_orm::DbBackend;
use wb_core::{ErrorKind, SinkError};

use crate::connection::tx::Pool;
use crate::examine::live_table;
use crate::examine::live_table::Live;
use crate::mapping::entity::{Columns, Table};
use crate::statement::dialect::keys;
use crate::values::limit::Limit;

/// What the database says of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Largest packet that the server takes, in bytes (MySQL).
    pub(crate) max_packet: Option<usize>,
    /// The key column that the server fills in when it is zero (MySQL).
    pub(crate) auto_increment: Option<String>,
    /// Columns that take no NULL, of fields that may be `None`.
    pub(crate) required: Vec<Cow<'static, str>>,
    /// What each mapped column keeps, in the order of the mapping.
    pub(crate) limits: Vec<(Cow<'static, str>, Limit)>,
}

impl Facts {
    /// What is known of the columns.
    pub(crate) fn columns(&self, backend: DbBackend) -> Columns<'_> {
        Columns { backend, limits: &self.limits }
    }
}

/// Looks at the table: it must exist, and its key must be unique in the database too, or each write would add a row.
pub(crate) async fn inspect(pool: &Pool, entity: &'static str, table: &Table) -> Result<Facts, SinkError> {
    let misconfigured = |what: &str| {
        SinkError::new(ErrorKind::Misconfigured, format!("table `{}` of entity `{entity}` {what}", place(table)))
    };
    let Some(live) = live_table::look(pool, table).await? else { return Err(misconfigured("does not exist")) };
    let backend = pool.backend();
    if !live.unique.values().any(|unique| is_key(backend, table, unique)) {
        let columns = keys(table).map(|c| format!("`{}`", c.name)).collect::<Vec<_>>().join(", ");
        return Err(misconfigured(&format!(
            "has no primary key or unique index on exactly its key columns ({columns}); create one, or key the entity \
             by the table's primary key"
        )));
    }
    let mut facts = Facts {
        auto_increment: numbering(backend, table, &live),
        required: required(backend, table, &live),
        limits: limits(backend, table, &live),
        ..Facts::default()
    };
    if backend == DbBackend::MySql {
        facts.max_packet = server(pool).await?.max_packet;
    }
    Ok(facts)
}

/// Columns that take no NULL, of fields that may be `None`. A trigger may fill them in.
fn required(backend: DbBackend, table: &Table, live: &Live) -> Vec<Cow<'static, str>> {
    let takes_none = |name: &str| {
        let mut same = live.columns.iter().filter(|found| fold(backend, &found.name) == fold(backend, name));
        live.prepared || same.all(|found| found.nullable)
    };
    let optional = table.columns.iter().filter(|column| column.nullable && !column.key && column.casts.is_none());
    optional.filter(|column| !takes_none(&column.name)).map(|column| column.name.clone()).collect()
}

/// What each mapped column keeps.
fn limits(backend: DbBackend, table: &Table, live: &Live) -> Vec<(Cow<'static, str>, Limit)> {
    let limit = |name: &str| {
        let found = live.columns.iter().find(|found| fold(backend, &found.name) == fold(backend, name));
        found.map_or_else(|| Limit::unseen(backend).clone(), |found| found.limit.clone())
    };
    let limits = table.columns.iter().map(|column| match column.casts {
        // What comes out of a cast of the program's own is its own to know.
        Some(_) => (column.name.clone(), Limit::unseen(backend).clone()),
        None => (column.name.clone(), limit(&column.name)),
    });
    limits.collect()
}

/// The table's name with its schema, for people.
pub(crate) fn place(table: &Table) -> String {
    table.schema.as_ref().map_or_else(|| table.name.to_string(), |schema| format!("{schema}.{}", table.name))
}

/// A column's name as the database compares it: MySQL and SQLite take it without its case.
pub(crate) fn fold(backend: DbBackend, name: &str) -> String {
    if backend == DbBackend::Postgres { name.to_owned() } else { name.to_lowercase() }
}

/// Whether these columns are exactly the key.
pub(crate) fn is_key(backend: DbBackend, table: &Table, columns: &BTreeSet<String>) -> bool {
    let key: BTreeSet<String> = keys(table).map(|c| fold(backend, &c.name)).collect();
    columns.iter().map(|c| fold(backend, c)).collect::<BTreeSet<_>>() == key
}

fn numbering(backend: DbBackend, table: &Table, live: &Live) -> Option<String> {
    let is_key = |name: &str| keys(table).any(|c| fold(backend, &c.name) == fold(backend, name));
    live.columns.iter().find(|column| column.numbers && is_key(&column.name)).map(|column| column.name.clone())
}

/// What MySQL's settings say.
pub(crate) struct Server {
    pub(crate) max_packet: Option<usize>,
    /// The session's times are those of UTC.
    pub(crate) utc: bool,
}

pub(crate) async fn server(pool: &Pool) -> Result<Server, SinkError> {
    let text = "SELECT CAST(@@max_allowed_packet AS CHAR) AS p, \
                CAST(IF(@@session.time_zone = 'SYSTEM', @@system_time_zone, @@session.time_zone) AS CHAR) AS z";
    let found = live_table::ask(pool, text, Vec::new(), |row| {
        Ok((row.try_get_by::<String, _>("p")?, row.try_get_by::<String, _>("z")?))
    });
    let (packet, zone) = found.await?.into_iter().next().unwrap_or_default();
    let utc = ["+00:00", "utc", "etc/utc", "gmt"].iter().any(|name| zone.eq_ignore_ascii_case(name));
    Ok(Server { max_packet: packet.parse().ok(), utc })
}
