//! Tables made from mappings, for tests, examples and first runs. Use migrations in production.

use sea_orm::sea_query::{Alias, ColumnDef, ColumnType, Index, IntoIden, StringLen, Table, TableCreateStatement};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr};
use wb_core::SinkError;

use crate::connection::error::from_sea_orm;
use crate::connection::tx::backend;
use crate::mapping::entity::{Column, SqlEntity, Table as Mapping};
use crate::statement::dialect::{is_text, keys, mysql, postgres, sqlite};

/// Creates the table of an entity unless it exists, and on PostgreSQL the types of its enums.
///
/// The columns are as SeaORM's schema builder makes them, except that on MySQL times keep their microseconds and text
/// keys compare by byte, and that a `Decimal` whose digits nobody says keeps all of them: `DECIMAL(57, 28)` on MySQL, text on
/// SQLite (which SeaORM itself does not read; `column_type = "Decimal(Some((20, 4)))"` makes it a `REAL`).
///
/// # Errors
/// As for [`write`](wb_core::Sink::write).
pub async fn create_table<E: SqlEntity>(db: &DatabaseConnection) -> Result<(), SinkError> {
    let backend = backend(db)?;
    let table = E::table();
    let made = async {
        if backend == DbBackend::Postgres {
            for column in &table.columns {
                create_enum(db, &column.column_type).await?;
            }
        }
        db.execute(&statement(backend, &table)).await.map(drop)
    };
    made.await.map_err(|e| from_sea_orm(format!("creating table `{}` of entity `{}`", table.name, E::NAME), e))
}

/// Drops the table of an entity if it exists. Types of enums stay, because other tables may use them.
///
/// # Errors
/// As for [`write`](wb_core::Sink::write).
pub async fn drop_table<E: SqlEntity>(db: &DatabaseConnection) -> Result<(), SinkError> {
    let table = E::table();
    let name = match backend(db)? {
        DbBackend::Postgres => postgres::table(&table),
        DbBackend::MySql => mysql::table(&table),
        _ => sqlite::table(&table),
    };
    let dropped = db.execute_unprepared(&format!("DROP TABLE IF EXISTS {name}")).await;
    let context = || format!("dropping table `{}` of entity `{}`", table.name, E::NAME);
    dropped.map(drop).map_err(|e| from_sea_orm(context(), e))
}

async fn create_enum(db: &DatabaseConnection, column_type: &ColumnType) -> Result<(), DbErr> {
    let (name, variants) = match column_type {
        ColumnType::Enum { name, variants } => (name, variants),
        ColumnType::Array(items) => match &**items {
            ColumnType::Enum { name, variants } => (name, variants),
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    let labels: Vec<String> = variants.iter().map(|v| format!("'{}'", v.to_string().replace('\'', "''"))).collect();
    // PostgreSQL has no CREATE TYPE IF NOT EXISTS.
    let text = format!(
        "DO $wb$ BEGIN CREATE TYPE {} AS ENUM ({}); \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $wb$",
        postgres::name(&name.to_string()),
        labels.join(", ")
    );
    db.execute_unprepared(&text).await.map(drop)
}

fn statement(backend: DbBackend, mapping: &Mapping) -> TableCreateStatement {
    let mut create = Table::create();
    match &mapping.schema {
        Some(schema) => create.table((Alias::new(&**schema), Alias::new(&*mapping.name))),
        None => create.table(Alias::new(&*mapping.name)),
    };
    create.if_not_exists();
    if backend == DbBackend::MySql {
        create.character_set("utf8mb4");
    }
    for column in &mapping.columns {
        let mut def = ColumnDef::new_with_type(Alias::new(&*column.name), column_type(backend, column));
        if !column.nullable {
            def.not_null();
        }
        if column.key && backend == DbBackend::MySql && is_text(column) {
            def.extra("COLLATE utf8mb4_bin");
        }
        create.col(&mut def);
    }
    let mut primary = Index::create();
    for column in keys(mapping) {
        primary.col(Alias::new(&*column.name));
    }
    create.primary_key(&mut primary);
    create
}

fn column_type(backend: DbBackend, column: &Column) -> ColumnType {
    let custom = |name: String| ColumnType::Custom(Alias::new(name).into_iden());
    match (backend, &column.column_type) {
        (DbBackend::Postgres, ColumnType::Enum { name, .. }) => custom(postgres::name(&name.to_string())),
        (DbBackend::Postgres, ColumnType::Array(items)) => match &**items {
            ColumnType::Enum { name, .. } => custom(format!("{}[]", postgres::name(&name.to_string()))),
            _ => column.column_type.clone(),
        },
        (DbBackend::MySql, ColumnType::DateTime | ColumnType::Timestamp | ColumnType::TimestampWithTimeZone) => {
            custom("datetime(6)".into())
        }
        (DbBackend::MySql, ColumnType::Time) => custom("time(6)".into()),
        // Without a scale MySQL keeps none; with these digits it keeps whatever a `Decimal` has.
        (DbBackend::MySql, ColumnType::Decimal(None)) => ColumnType::Decimal(Some((57, 28))),
        // Where nothing is said about its digits, all of them are kept: a floating-point number keeps fifteen.
        (DbBackend::Sqlite, ColumnType::Decimal(None)) => custom("decimal_text".into()),
        // A key needs a length, and four bytes a character must fit into the index.
        (DbBackend::MySql, ColumnType::Text | ColumnType::String(StringLen::None)) if column.key => {
            ColumnType::String(StringLen::N(191))
        }
        (_, other) => other.clone(),
    }
}
