//! The table of a struct that names one.

use std::collections::HashSet;

use syn::LitStr;

use super::{check_identifier, literal};
use crate::ast::{Field, Input};
use crate::ctxt::Mistakes;
use crate::plan::{Column, Stored, Table};

pub(super) fn check<'a>(input: &'a Input<'a>, mistakes: &mut Mistakes) -> Option<Table<'a>> {
    let table = input.words.table.as_ref()?;
    check_identifier("table name", table, mistakes);
    if let Some(schema) = &input.words.schema {
        check_identifier("schema name", schema, mistakes);
    }
    let columns: Vec<Column<'a>> = input.fields.iter().map(|field| column(input, field)).collect();
    for column in &columns {
        if let Some(rename) = &column.field.words.rename {
            check_identifier("column name", rename, mistakes);
        }
    }
    check_distinct(&columns, mistakes);
    Some(Table { schema: input.words.schema.as_ref().map(literal), name: literal(table), columns })
}

fn column<'a>(input: &Input<'a>, field: &'a Field<'a>) -> Column<'a> {
    let words = &field.words;
    let name = match (&words.rename, &input.words.rename_all) {
        (Some(rename), _) => literal(rename),
        (None, Some(case)) => LitStr::new(&case.value.apply(&field.name()), field.ident.span()),
        (None, None) => LitStr::new(&field.name(), field.ident.span()),
    };
    let insert_only = words.insert_only.is_some();
    let stored = if words.skip.is_some() {
        Stored::Not
    } else if words.json.is_some() {
        Stored::Json { insert_only }
    } else {
        Stored::Value { key: words.key.is_some(), insert_only }
    };
    Column { field, name, stored }
}

fn check_distinct(columns: &[Column<'_>], mistakes: &mut Mistakes) {
    let mut seen = HashSet::new();
    for column in columns.iter().filter(|column| column.stored != Stored::Not) {
        let name = column.name.value();
        if !seen.insert(name.clone()) {
            mistakes.note(
                column.name.span(),
                format_args!("two fields are stored in the column `{name}`; give one another name with `rename`"),
            );
        }
    }
}
