//! SeaORM's `save_as` and `select_as`: what a program wants a value cast to on its way into a column and out of it.

use sea_orm::sea_query::{Expr, Query};
use sea_orm::{ColumnTrait, DbBackend};

/// Stands for the value in what SeaORM makes of it.
const VALUE: &str = "wb_value_of_this_column";

/// Expressions around a value, as each database writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Casts {
    save: Option<Forms>,
    select: Option<Forms>,
}

/// By database, because each quotes names in its own way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Forms {
    postgres: String,
    mysql: String,
    sqlite: String,
}

impl Casts {
    /// Those of a column of a `Model`; `None` where it has none but those of its type, which the sink makes itself.
    pub(crate) fn of<C: ColumnTrait>(column: &C) -> Option<Box<Self>> {
        let value = || Expr::cust(VALUE);
        let save = Forms::of(&column.save_as(value()), &column.save_enum_as(value()));
        let select = Forms::of(&column.select_as(value()), &column.select_enum_as(value()));
        (save.is_some() || select.is_some()).then(|| Box::new(Self { save, select }))
    }

    /// The expression that is stored where `value` would be.
    pub(crate) fn saved(&self, backend: DbBackend, value: &str) -> Option<String> {
        self.save.as_ref().map(|forms| forms.around(backend, value))
    }

    /// The expression that is read where `column` would be.
    pub(crate) fn selected(&self, backend: DbBackend, column: &str) -> Option<String> {
        self.select.as_ref().map(|forms| forms.around(backend, column))
    }
}

impl Forms {
    fn of(said: &Expr, usual: &Expr) -> Option<Self> {
        if said == usual {
            return None;
        }
        let text = |backend: DbBackend| {
            let text = backend.build(Query::select().expr(said.clone())).sql;
            text.strip_prefix("SELECT ").map_or_else(|| text.clone(), str::to_owned)
        };
        Some(Self {
            postgres: text(DbBackend::Postgres),
            mysql: text(DbBackend::MySql),
            sqlite: text(DbBackend::Sqlite),
        })
    }

    fn around(&self, backend: DbBackend, value: &str) -> String {
        let form = match backend {
            DbBackend::Postgres => &self.postgres,
            DbBackend::MySql => &self.mysql,
            _ => &self.sqlite,
        };
        form.replace(VALUE, value)
    }
}
