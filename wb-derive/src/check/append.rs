//! Append-only entities, and the field that decides the partition.

use crate::ast::{Field, Input};
use crate::ctxt::Mistakes;

/// Words that say that a row changes.
pub(super) fn check(input: &Input<'_>, mistakes: &mut Mistakes) {
    if input.words.append.is_none() {
        return;
    }
    let mut never = |span: Option<proc_macro2::Span>, word: &str| {
        if let Some(span) = span {
            mistakes.note(
                span,
                format_args!("`{word}` contradicts `append`: what is added never changes; remove one of the two"),
            );
        }
    };
    never(input.words.merge.as_ref().map(|said| said.span), "merge");
    never(input.words.patch.as_ref().map(|said| said.span), "patch");
    for field in &input.fields {
        never(field.words.version.as_ref().map(|said| said.span), "version");
        never(field.words.counter.as_ref().map(|said| said.span), "counter");
    }
}

/// The field that decides the partition, where one is marked.
pub(super) fn place<'a>(
    input: &'a Input<'a>,
    keys: &[&'a Field<'a>],
    mistakes: &mut Mistakes,
) -> Option<&'a Field<'a>> {
    let mut marked = input.fields.iter().filter_map(|field| Some((field, field.words.partition_by.as_ref()?.span)));
    let (by, span) = marked.next()?;
    let name = by.name();
    for (_, second) in marked {
        mistakes.note(second, format_args!("`{name}` decides the partition already; keep one of the two"));
    }
    let is_key = keys.iter().any(|key| key.ident == by.ident);
    if !is_key && input.words.append.is_none() {
        mistakes.note(
            span,
            format_args!(
                "a record is looked for by its key alone, and `{name}` is no part of it; \
                 mark it with `#[wb(key)]` too, or the struct with `#[wb(append)]`"
            ),
        );
    }
    if let Some(lost) = by.serde.lost.filter(|_| !is_key) {
        mistakes.note(
            lost,
            format_args!("`{name}` decides the partition, so it must survive in the payload; remove serde's `skip`"),
        );
    }
    Some(by)
}
