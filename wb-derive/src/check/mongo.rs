//! The collection of a struct that names one.

use proc_macro2::Span;
use syn::LitStr;

use super::{check_identifier, literal};
use crate::ast::{Field, Input};
use crate::ctxt::Mistakes;
use crate::plan::{Form, Mongo, Rule, RuleKind};

pub(super) fn check<'a>(input: &'a Input<'a>, keys: &[&'a Field<'a>], mistakes: &mut Mistakes) -> Option<Mongo<'a>> {
    let collection = input.words.collection.as_ref()?;
    check_identifier("collection name", collection, mistakes);
    if collection.value.contains('$') || collection.value.starts_with("system.") {
        mistakes.note(
            collection.span,
            "MongoDB keeps names with `$` or the prefix `system.` for itself; choose another collection name",
        );
    }
    let rules: Vec<Rule<'a>> = input.fields.iter().filter_map(|field| rule(input, field)).collect();
    for rule in &rules {
        check_rule(input, rule, mistakes);
    }
    if let Some(span) = said(&input.words.merge) {
        check_merge(input, span, mistakes);
    }
    for key in keys {
        check_key(key, mistakes);
    }
    let id = keys.iter().map(|key| (document_name(input, key), key.ty, form(input, key))).collect();
    let version = input.versions().next().map(|(field, _)| document_name(input, field));
    let stored = input.fields.iter().filter(|field| is_stored(field));
    let fields = stored.map(|field| (document_name(input, field), field)).collect();
    let merge = input.words.merge.is_some();
    Some(Mongo { collection: literal(collection), rules, merge, fields, version, id })
}

/// Whether the field is in the document under a name of its own.
fn is_stored(field: &Field<'_>) -> bool {
    field.words.skip.is_none() && field.serde.skip.is_none() && field.serde.flatten.is_none()
}

/// What is merged is set and unset by name.
fn check_merge(input: &Input<'_>, said: Span, mistakes: &mut Mistakes) {
    if input.serde.other_type.is_some() {
        mistakes.note(
            said,
            "`merge` needs the names in the document, and serde's `into` writes another type; remove one of the two",
        );
        return;
    }
    for field in &input.fields {
        if let Some(flatten) = field.serde.flatten {
            mistakes.note(
                flatten,
                "`merge` needs a name in the document, and serde's `flatten` takes it away; remove one of the two",
            );
        }
        let name = field.document_name(&input.serde);
        if is_stored(field) && (name.is_empty() || name.starts_with('$') || name.contains(['.', '\0'])) {
            mistakes.note(
                field.ident.span(),
                format_args!("MongoDB cannot set a field of the name `{}` alone; give it another", name.escape_debug()),
            );
        }
    }
}

/// The rule of a field; `None` when its stored form is serde's.
fn rule<'a>(input: &Input<'a>, field: &'a Field<'a>) -> Option<Rule<'a>> {
    let (words, serde) = (&field.words, &field.serde);
    let kind = if words.native_bson.is_some() {
        RuleKind::Native
    } else if words.skip.is_some() {
        // What serde leaves out is in no document, and serde fills it in by itself.
        if serde.skip.is_some() {
            return None;
        }
        RuleKind::Skip
    } else if input.words.native_bson.is_some() {
        // "Every field that can" is not said of a field that has no name, no place or a form of its own.
        // Nor of a type parameter: what stands for it is not known where the rules are made.
        let apart = serde.skip.is_some() || serde.flatten.is_some() || serde.with.is_some();
        if apart || input.is_generic(field.ty) {
            return None;
        }
        RuleKind::NativeIfAny
    } else {
        return None;
    };
    Some(Rule { field, name: document_name(input, field), kind })
}

fn check_rule(input: &Input<'_>, rule: &Rule<'_>, mistakes: &mut Mistakes) {
    let serde = &rule.field.serde;
    let field = rule.field.name();
    let (word, span) = match rule.kind {
        RuleKind::Skip => ("skip", said(&rule.field.words.skip)),
        RuleKind::Native => ("native_bson", said(&rule.field.words.native_bson)),
        RuleKind::NativeIfAny => ("native_bson", said(&input.words.native_bson)),
    };
    if let Some(other) = input.serde.other_type {
        mistakes.note(
            span.unwrap_or(other),
            format_args!(
                "`{word}` needs the names in the document, and serde's `into` writes another type; \
                 remove one of the two"
            ),
        );
        return;
    }
    let span = span.unwrap_or_else(|| rule.field.ident.span());
    if serde.flatten.is_some() {
        let advice = match rule.kind {
            RuleKind::Skip => "use `#[serde(skip)]` instead of `flatten`",
            RuleKind::Native | RuleKind::NativeIfAny => "remove one of the two",
        };
        mistakes.note(
            span,
            format_args!("`{word}` needs a name in the document, and serde's `flatten` takes it away; {advice}"),
        );
    } else if serde.skip.is_some() {
        mistakes
            .note(span, format_args!("serde leaves `{field}` out of the document; remove `{word}` or serde's `skip`"));
    } else if serde.with.is_some() {
        let advice = match rule.kind {
            RuleKind::Skip => "add `#[serde(skip)]`, or use a type that has this form by itself",
            RuleKind::Native | RuleKind::NativeIfAny => "remove one of the two",
        };
        mistakes.note(span, format_args!("`{word}` and serde's `with` both say how `{field}` is written; {advice}"));
    }
}

/// The `_id` is made of the key alone, so a key's form must be its type's.
fn check_key(key: &Field<'_>, mistakes: &mut Mistakes) {
    if let (Some(span), None) = (key.serde.with, &key.words.native_bson) {
        mistakes.note(
            span,
            format_args!(
                "the key field `{}` is also written alone, as `_id`, where serde's `with` is not known; \
                 use a newtype that has this form by itself, or `#[wb(native_bson)]`",
                key.name()
            ),
        );
    }
}

fn form(input: &Input<'_>, key: &Field<'_>) -> Form {
    if key.words.native_bson.is_some() {
        Form::Native
    } else if input.words.native_bson.is_some() && !input.is_generic(key.ty) {
        Form::NativeIfAny
    } else {
        Form::Serde
    }
}

fn document_name(input: &Input<'_>, field: &Field<'_>) -> LitStr {
    LitStr::new(&field.document_name(&input.serde), field.ident.span())
}

fn said(word: &Option<crate::attr::Said<()>>) -> Option<Span> {
    word.as_ref().map(|said| said.span)
}
