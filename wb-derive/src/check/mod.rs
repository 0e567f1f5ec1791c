//! What can be wrong with a struct that parses. Every mistake is noted at the smallest token that shows it.

mod append;
mod change;
mod model;
mod mongo;
mod sql;
mod version;

use syn::LitStr;

use crate::ast::{Field, Input};
use crate::attr::Said;
use crate::ctxt::Mistakes;
use crate::foreign::SeaStruct;
use crate::plan::{Plan, Sql};

const MOST_KEYS: usize = 6;

/// Checks the struct; the plan is complete only if no mistake was noted.
pub(crate) fn check<'a>(input: &'a Input<'a>, mistakes: &mut Mistakes) -> Option<Plan<'a>> {
    if input.fields.is_empty() {
        // Either that is the mistake, already noted, or there is nothing to check.
        no_fields(input, mistakes);
        return None;
    }
    let name = name(input, mistakes);
    let keys = keys(input, mistakes);
    for field in &input.fields {
        contradictions(field, mistakes);
        survives(input, field, mistakes);
    }
    let version = version::check(input, mistakes);
    change::check(input, mistakes);
    append::check(input, mistakes);
    let place = append::place(input, &keys, mistakes);
    without_sink(input, mistakes);
    let sql = match input.sea {
        SeaStruct::Model => {
            model::check(input, mistakes);
            Some(Sql::Model)
        }
        SeaStruct::Plain | SeaStruct::ModelEx => sql::check(input, mistakes).map(Sql::Table),
    };
    let mongo = mongo::check(input, &keys, mistakes);
    let format = input.words.format.as_ref().map(|said| said.value).unwrap_or_default();
    Some(Plan { input, name: name?, format, keys, version, place, sql, mongo })
}

fn no_fields(input: &Input<'_>, mistakes: &mut Mistakes) {
    if mistakes.is_empty() {
        let ident = input.ident;
        mistakes.note(ident.span(), format_args!("`{ident}` has no fields, so it has no key; give it a key field"));
    }
}

fn name(input: &Input<'_>, mistakes: &mut Mistakes) -> Option<LitStr> {
    let Some(said) = &input.words.name else {
        if input.words.tried_name {
            return None;
        }
        let ident = input.ident;
        let example = heck::AsSnakeCase(ident.to_string());
        mistakes.note(ident.span(), format_args!("`{ident}` has no entity name; add `#[wb(name = \"{example}\")]`"));
        return None;
    };
    let legal = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.');
    if said.value.is_empty() {
        mistakes.note(said.span, "the entity name is empty; it is part of every Redis key, give it a text");
    } else if let Some(char) = said.value.chars().find(|char| !legal(*char)) {
        let char = char.escape_debug();
        mistakes.note(
            said.span,
            format_args!(
                "an entity name cannot contain `{char}`: it is part of every Redis key; \
                 use ASCII letters, digits, `_`, `-` and `.`"
            ),
        );
    }
    Some(literal(said))
}

fn keys<'a>(input: &'a Input<'a>, mistakes: &mut Mistakes) -> Vec<&'a Field<'a>> {
    let keys = input.keys();
    if keys.is_empty() && !input.fields.iter().any(|field| field.words.tried_key) {
        let ident = input.ident;
        let advice = match input.sea {
            SeaStruct::Model => "mark it with SeaORM's `#[sea_orm(primary_key)]`",
            SeaStruct::Plain | SeaStruct::ModelEx => "mark one or several with `#[wb(key)]`",
        };
        mistakes.note(ident.span(), format_args!("no field of `{ident}` is the key; {advice}"));
    }
    if let Some(field) = keys.get(MOST_KEYS) {
        let span = field.words.key.as_ref().map_or(field.ident.span(), |said| said.span);
        mistakes.note(
            span,
            format_args!("a key has at most {MOST_KEYS} fields; use fewer, or one newtype that implements `KeyPart`"),
        );
    }
    for field in &keys {
        if let Some(span) = field.serde.flatten {
            mistakes.note(
                span,
                format_args!(
                    "the key field `{}` has no name of its own; remove serde's `flatten` or choose another key",
                    field.name()
                ),
            );
        }
    }
    keys
}

/// What is stored must survive the buffer, where only serde's form of the value waits.
fn survives(input: &Input<'_>, field: &Field<'_>, mistakes: &mut Mistakes) {
    let Some(span) = field.serde.lost else { return };
    let name = field.name();
    let is_model = input.sea == SeaStruct::Model;
    if field.words.key.is_some() || (is_model && field.sea.primary_key) {
        mistakes.note(
            span,
            format_args!(
                "the key field `{name}` must survive in the payload; remove serde's `skip` or choose another key"
            ),
        );
        return;
    }
    if field.words.version.is_some() {
        // Said where versions are checked.
        return;
    }
    // A field that serde does not write is in no document either: that is what its user asked for.
    let in_document = input.words.collection.is_some() && field.serde.skip.is_none();
    let in_row = if is_model { !field.sea.ignore } else { input.words.table.is_some() };
    if field.words.skip.is_none() && (in_row || in_document) {
        let skip = if is_model { "#[sea_orm(ignore)]" } else { "#[wb(skip)]" };
        mistakes.note(
            span,
            format_args!(
                "serde loses `{name}` on the way through the buffer, so its default would be stored; \
                 add `{skip}` or remove serde's `skip`"
            ),
        );
    }
}

/// Words that cannot both be meant.
fn contradictions(field: &Field<'_>, mistakes: &mut Mistakes) {
    let words = &field.words;
    let key = "a key is stored as it is, on every write; remove one of the two";
    let skip = "what is skipped is not stored at all; remove one of the two";
    let parent = words.belongs_to.as_ref().map(|said| Said { span: said.span, value: () });
    let pairs = [
        (
            "key",
            &words.key,
            "skip",
            &words.skip,
            "a record without its key cannot be found again; remove one of the two",
        ),
        ("key", &words.key, "json", &words.json, key),
        ("key", &words.key, "insert_only", &words.insert_only, key),
        ("key", &words.key, "version", &words.version, "a key never changes, a version does; remove one of the two"),
        ("skip", &words.skip, "json", &words.json, skip),
        ("skip", &words.skip, "insert_only", &words.insert_only, skip),
        ("skip", &words.skip, "version", &words.version, skip),
        (
            "insert_only",
            &words.insert_only,
            "version",
            &words.version,
            "a version is written with every state; remove one of the two",
        ),
        ("json", &words.json, "version", &words.version, "versions are compared as numbers; remove one of the two"),
        ("skip", &words.skip, "native_bson", &words.native_bson, skip),
        ("json", &words.json, "belongs_to", &parent, "a foreign key is stored as it is; remove one of the two"),
        ("skip", &words.skip, "belongs_to", &parent, skip),
    ];
    for (one, said_one, other, said_other, advice) in pairs {
        if let (Some(_), Some(said)) = (said_one, said_other) {
            mistakes.note(said.span, format_args!("`{other}` contradicts `{one}`: {advice}"));
        }
    }
    if let (Some(_), Some(said)) = (&words.skip, &words.rename) {
        mistakes.note(said.span, format_args!("`rename` contradicts `skip`: {skip}"));
    }
}

/// Words about a sink that the struct does not name.
fn without_sink(input: &Input<'_>, mistakes: &mut Mistakes) {
    let words = &input.words;
    let is_model = input.sea == SeaStruct::Model;
    if words.table.is_none() && !is_model {
        about_table(words.schema.as_ref().map(|said| said.span), "schema", mistakes);
        about_table(words.rename_all.as_ref().map(|said| said.span), "rename_all", mistakes);
        about_table(words.client_keys.as_ref().map(|said| said.span), "client_keys", mistakes);
        for field in &input.fields {
            about_table(field.words.rename.as_ref().map(|said| said.span), "rename", mistakes);
            about_table(field.words.json.as_ref().map(|said| said.span), "json", mistakes);
            let insert_only = field.words.insert_only.as_ref().map(|said| said.span);
            match (&words.collection, &words.merge) {
                (Some(_), Some(_)) => {}
                (Some(_), None) => {
                    if let Some(span) = insert_only {
                        mistakes.note(
                            span,
                            "`insert_only` says nothing of a document that is replaced as a whole; \
                             add `merge` or `table = \"...\"` to the struct",
                        );
                    }
                }
                (None, _) => about_table(insert_only, "insert_only", mistakes),
            }
        }
    }
    if let (None, Some(said)) = (&words.collection, &words.merge) {
        mistakes.note(
            said.span,
            "`merge` is about a collection, and there is none; add `collection = \"...\"` to the struct",
        );
    }
    if words.collection.is_none() {
        let fields = input.fields.iter().filter_map(|field| field.words.native_bson.as_ref());
        for said in words.native_bson.iter().chain(fields) {
            mistakes.note(
                said.span,
                "`native_bson` is about a collection, and there is none; add `collection = \"...\"` to the struct",
            );
        }
    }
    if words.table.is_none() && words.collection.is_none() && !is_model {
        for said in input.fields.iter().filter_map(|field| field.words.skip.as_ref()) {
            mistakes.note(
                said.span,
                "`skip` leaves a field out of a table or a collection, and there is none; \
                 add `table = \"...\"` or `collection = \"...\"` to the struct",
            );
        }
    }
}

/// Notes a word about a table where there is none.
fn about_table(said: Option<proc_macro2::Span>, word: &str, mistakes: &mut Mistakes) {
    if let Some(span) = said {
        mistakes.note(
            span,
            format_args!("`{word}` is about a table, and there is none; add `table = \"...\"` to the struct"),
        );
    }
}

/// What was said, as a literal that keeps its place.
fn literal(said: &Said<String>) -> LitStr {
    LitStr::new(&said.value, said.span)
}

/// Notes a name that a server cannot have.
fn check_identifier(what: &str, said: &Said<String>, mistakes: &mut Mistakes) {
    if said.value.is_empty() {
        mistakes.note(said.span, format_args!("the {what} is empty; give it a text"));
    } else if said.value.contains('\0') {
        mistakes.note(said.span, format_args!("the {what} contains a NUL character; remove it"));
    }
}
