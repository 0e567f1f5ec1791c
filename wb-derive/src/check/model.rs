//! A SeaORM `Model`: what SeaORM says already is not said again here.

use proc_macro2::Span;

use crate::ast::Input;
use crate::ctxt::Mistakes;

pub(super) fn check(input: &Input<'_>, mistakes: &mut Mistakes) {
    let words = &input.words;
    let mut elsewhere = |said: Option<Span>, word: &str, instead: &str| {
        if let Some(span) = said {
            mistakes.note(
                span,
                format_args!("SeaORM knows the mapping of a `Model`; instead of `{word}` use `#[sea_orm({instead})]`"),
            );
        }
    };
    elsewhere(words.table.as_ref().map(|said| said.span), "table", "table_name = \"...\"");
    elsewhere(words.schema.as_ref().map(|said| said.span), "schema", "schema_name = \"...\"");
    elsewhere(words.rename_all.as_ref().map(|said| said.span), "rename_all", "rename_all = \"...\"");
    let marked = input.fields.iter().any(|field| field.sea.primary_key);
    for field in &input.fields {
        let words = &field.words;
        elsewhere(words.rename.as_ref().map(|said| said.span), "rename", "column_name = \"...\"");
        elsewhere(words.json.as_ref().map(|said| said.span), "json", "column_type = \"Json\"");
        elsewhere(words.skip.as_ref().map(|said| said.span), "skip", "ignore");
        if marked && !field.sea.primary_key {
            elsewhere(words.key.as_ref().map(|said| said.span), "key", "primary_key");
        }
    }
    for field in input.fields.iter().filter(|field| field.sea.ignore) {
        if let Some(said) = &field.words.belongs_to {
            mistakes.note(said.span, "what SeaORM ignores is no column, and refers to nothing; remove `belongs_to`");
        }
    }
    for field in input.fields.iter().filter(|field| field.sea.primary_key) {
        if let Some(said) = &field.words.insert_only {
            mistakes.note(said.span, "a primary key is never updated; remove `insert_only`");
        }
    }
}
