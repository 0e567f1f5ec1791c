//! The rows of a batch, bound and checked.

use wb_core::{Batch, ErrorKind, Id, SinkError, Unstorable};

use crate::mapping::entity::{Column, SqlEntity};
use crate::statement::plan::{Plan, Row};
use crate::values::unstorable::check;

/// A batch as rows; what the database cannot hold is named.
pub(crate) struct Rows<'a> {
    pub(crate) upserts: Part<'a>,
    pub(crate) deletes: Part<'a>,
    pub(crate) rejected: Vec<(Id, SinkError)>,
}

/// Rows, and whose they are.
pub(crate) struct Part<'a> {
    pub(crate) ids: Vec<&'a Id>,
    pub(crate) rows: Vec<Row>,
}

impl<'a> Part<'a> {
    fn with_capacity(rows: usize) -> Self {
        Self { ids: Vec::with_capacity(rows), rows: Vec::with_capacity(rows) }
    }

    fn push(&mut self, id: &'a Id, row: Row) {
        self.ids.push(id);
        self.rows.push(row);
    }
}

impl<'a> Rows<'a> {
    pub(crate) fn of<E: SqlEntity>(plan: &Plan, batch: &'a Batch<E>) -> Result<Self, SinkError> {
        let mut rows = Self {
            upserts: Part::with_capacity(batch.upserts.len()),
            deletes: Part::with_capacity(batch.deletes.len()),
            rejected: Vec::new(),
        };
        for upsert in &batch.upserts {
            match row(plan, &upsert.value)? {
                Ok(row) => rows.upserts.push(&upsert.id, row),
                Err(error) => rows.rejected.push((upsert.id.clone(), error.of::<E>(&upsert.id))),
            }
        }
        for delete in &batch.deletes {
            // A key that the database cannot hold is not there.
            if let Some(row) = key::<E>(plan, &delete.key)? {
                rows.deletes.push(&delete.id, row);
            }
        }
        Ok(rows)
    }

    /// How many are left to write.
    pub(crate) fn len(&self) -> usize {
        self.upserts.rows.len() + self.deletes.rows.len()
    }

    /// The id of the only row.
    pub(crate) fn only(&self) -> Option<&'a Id> {
        let mut ids = self.upserts.ids.iter().chain(&self.deletes.ids);
        ids.next().filter(|_| self.len() == 1).copied()
    }
}

/// Whether the table that the plan is for can hold a row of so many bytes.
pub(crate) fn storable<E: SqlEntity>(plan: &Plan, value: &E, bytes: usize) -> Result<(), Unstorable> {
    if let Some(column) = plan.table.columns.iter().find(|column| column.key && fills_in(plan, column))
        && E::bind_key(&value.key()).iter().any(is_zero)
    {
        return Err(Unstorable::new(
            column.name.clone(),
            "is zero, which its AUTO_INCREMENT replaces by another number",
        ));
    }
    if plan.table.columns.iter().any(|column| column.key && !column.kept.changes.is_empty()) {
        for (column, value) in plan.table.columns.iter().filter(|column| column.key).zip(E::bind_key(&value.key())) {
            if let Some(why) = changed(column, &value) {
                return Err(Unstorable::new(column.name.clone(), why));
            }
        }
    }
    if !plan.facts.required.is_empty()
        && let Ok(values) = value.bind()
        && let Some((column, _)) =
            plan.table.columns.iter().zip(&values).find(|(column, value)| lacks(plan, column, value))
    {
        return Err(Unstorable::new(column.name.clone(), NO_NONE));
    }
    match plan.facts.max_packet {
        Some(packet) if bytes >= packet => {
            Err(Unstorable::new("(row)", format!("has {bytes} bytes, more than max_allowed_packet ({packet}) takes")))
        }
        _ => Ok(()),
    }
}

/// Why a record cannot be written.
struct Refusal {
    text: String,
    source: Option<crate::SqlMappingError>,
}

impl Refusal {
    fn of<E: SqlEntity>(self, id: &Id) -> SinkError {
        let error =
            SinkError::new(ErrorKind::Rejected, format!("record `{id}` of entity `{}`: {}", E::NAME, self.text));
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

fn row<E: SqlEntity>(plan: &Plan, value: &E) -> Result<Result<Row, Refusal>, SinkError> {
    let values = match value.bind() {
        Ok(values) => values,
        Err(source) => return Ok(Err(Refusal { text: "a field has no SQL form".into(), source: Some(source) })),
    };
    let columns = &plan.table.columns;
    if values.len() != columns.len() {
        return Err(uneven::<E>(plan, values.len(), columns.len()));
    }
    let mut row = Row { values: Vec::with_capacity(values.len()), bytes: 0 };
    for (index, (column, value)) in columns.iter().zip(values).enumerate() {
        if let Some(why) = changed(column, &value) {
            return Ok(Err(Refusal { text: format!("column `{}` {why}", column.name), source: None }));
        }
        if column.key && fills_in(plan, column) && is_zero(&value) {
            let text = format!("column `{}` is zero, which its AUTO_INCREMENT replaces by another number", column.name);
            return Ok(Err(Refusal { text, source: None }));
        }
        if lacks(plan, column, &value) {
            return Ok(Err(Refusal { text: format!("column `{}` {NO_NONE}", column.name), source: None }));
        }
        match check(plan.backend, column, plan.columns().limit(index, &column.name), value) {
            Ok(checked) => {
                row.values.push(checked.value);
                row.bytes += checked.bytes;
            }
            Err(why) => return Ok(Err(Refusal { text: format!("column `{}` {why}", column.name), source: None })),
        }
    }
    match plan.facts.max_packet {
        // The server would cut the connection, which looks like an outage.
        Some(packet) if row.bytes >= packet => {
            let text = format!("its {} bytes are more than max_allowed_packet ({packet}) takes", row.bytes);
            Ok(Err(Refusal { text, source: None }))
        }
        _ => Ok(Ok(row)),
    }
}

/// The values of a row that the database has; `None` when it is nothing that would be written.
pub(crate) fn values<E: SqlEntity>(plan: &Plan, value: &E) -> Result<Option<Row>, SinkError> {
    row(plan, value).map(Result::ok)
}

/// The values of a key; `None` when the database cannot hold them.
pub(crate) fn key<E: SqlEntity>(plan: &Plan, key: &E::Key) -> Result<Option<Row>, SinkError> {
    let values = E::bind_key(key);
    let width = plan.table.columns.iter().filter(|c| c.key).count();
    if values.len() != width {
        return Err(uneven::<E>(plan, values.len(), width));
    }
    let mut row = Row { values: Vec::with_capacity(width), bytes: 0 };
    let keys = plan.table.columns.iter().enumerate().filter(|(_, column)| column.key);
    for ((index, column), value) in keys.zip(values) {
        if changed(column, &value).is_some() {
            return Ok(None);
        }
        match check(plan.backend, column, plan.columns().limit(index, &column.name), value) {
            Ok(checked) => {
                row.values.push(checked.value);
                row.bytes += checked.bytes;
            }
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(row))
}

const NO_NONE: &str = "is `None`, and its column is NOT NULL";

/// Whether the column has to have a value, and this is none. The database would refuse it, or set one of its own.
fn lacks(plan: &Plan, column: &Column, value: &sea_orm::Value) -> bool {
    plan.facts.required.contains(&column.name) && *value == value.as_null()
}

/// Why a key's column would keep another key than this one.
fn changed(column: &Column, value: &sea_orm::Value) -> Option<&'static str> {
    if column.key { column.kept.keeps(value).err() } else { None }
}

fn uneven<E: SqlEntity>(plan: &Plan, values: usize, columns: usize) -> SinkError {
    let text = format!(
        "the mapping of entity `{}` gives {values} values for {columns} columns of table `{}`",
        E::NAME,
        plan.table.name
    );
    SinkError::new(ErrorKind::Misconfigured, text)
}

fn fills_in(plan: &Plan, column: &Column) -> bool {
    plan.facts.auto_increment.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(&column.name))
}

fn is_zero(value: &sea_orm::Value) -> bool {
    use sea_orm::Value;
    matches!(
        value,
        Value::TinyInt(Some(0))
            | Value::SmallInt(Some(0))
            | Value::Int(Some(0))
            | Value::BigInt(Some(0))
            | Value::TinyUnsigned(Some(0))
            | Value::SmallUnsigned(Some(0))
            | Value::Unsigned(Some(0))
            | Value::BigUnsigned(Some(0))
    )
}
