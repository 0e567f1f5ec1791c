//! The words of `#[wb(...)]`, each with the place where it was said.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, Lit, LitStr, Meta, Path, Token};

use crate::case::Case;
use crate::ctxt::Mistakes;
use crate::suggest::nearest;

/// Something that was said, and where.
pub(crate) struct Said<T> {
    pub(crate) span: Span,
    pub(crate) value: T,
}

/// How payloads are written.
#[derive(Clone, Copy, Default)]
pub(crate) enum Format {
    #[default]
    Json,
    MessagePack,
}

/// What `#[wb(...)]` says on the struct.
#[derive(Default)]
pub(crate) struct StructWords {
    /// A name was meant, but the mistake in it is noted already.
    pub(crate) tried_name: bool,
    pub(crate) name: Option<Said<String>>,
    pub(crate) table: Option<Said<String>>,
    pub(crate) schema: Option<Said<String>>,
    pub(crate) collection: Option<Said<String>>,
    pub(crate) format: Option<Said<Format>>,
    pub(crate) rename_all: Option<Said<Case>>,
    pub(crate) native_bson: Option<Said<()>>,
    pub(crate) append: Option<Said<()>>,
    pub(crate) merge: Option<Said<()>>,
    pub(crate) client_keys: Option<Said<()>>,
    pub(crate) patch: Option<Said<String>>,
    pub(crate) krate: Option<Said<Path>>,
}

/// What `#[wb(...)]` says on a field.
#[derive(Default)]
pub(crate) struct FieldWords {
    /// A key was meant, but the mistake in it is noted already.
    pub(crate) tried_key: bool,
    pub(crate) key: Option<Said<()>>,
    pub(crate) rename: Option<Said<String>>,
    pub(crate) skip: Option<Said<()>>,
    pub(crate) json: Option<Said<()>>,
    pub(crate) insert_only: Option<Said<()>>,
    pub(crate) version: Option<Said<()>>,
    pub(crate) native_bson: Option<Said<()>>,
    pub(crate) partition_by: Option<Said<()>>,
    pub(crate) belongs_to: Option<Said<Path>>,
    pub(crate) counter: Option<Said<String>>,
}

const STRUCT_WORDS: [&str; 12] = [
    "name",
    "table",
    "schema",
    "collection",
    "format",
    "rename_all",
    "native_bson",
    "append",
    "merge",
    "client_keys",
    "patch",
    "crate",
];
const FIELD_WORDS: [&str; 10] =
    ["key", "rename", "skip", "json", "insert_only", "version", "native_bson", "partition_by", "belongs_to", "counter"];

impl StructWords {
    pub(crate) fn parse(attrs: &[Attribute], mistakes: &mut Mistakes) -> Self {
        let (metas, all_read) = metas(attrs, mistakes);
        let mut words = Self { tried_name: !all_read, ..Self::default() };
        for meta in metas {
            let m = &mut *mistakes;
            let word = word_of(&meta);
            words.tried_name |= nearest(&word, STRUCT_WORDS) == Some("name");
            match word.as_str() {
                "name" => once(&mut words.name, &meta, text(&meta, m), m),
                "table" => once(&mut words.table, &meta, text(&meta, m), m),
                "schema" => once(&mut words.schema, &meta, text(&meta, m), m),
                "collection" => once(&mut words.collection, &meta, text(&meta, m), m),
                "format" => once(&mut words.format, &meta, text(&meta, m).and_then(|t| format(t, m)), m),
                "rename_all" => once(&mut words.rename_all, &meta, text(&meta, m).and_then(|t| case(t, m)), m),
                "native_bson" => once(&mut words.native_bson, &meta, flag(&meta, m), m),
                "append" => once(&mut words.append, &meta, flag(&meta, m), m),
                "merge" => once(&mut words.merge, &meta, flag(&meta, m), m),
                "client_keys" => once(&mut words.client_keys, &meta, flag(&meta, m), m),
                "patch" => once(&mut words.patch, &meta, text(&meta, m), m),
                "crate" => once(
                    &mut words.krate,
                    &meta,
                    text(&meta, m).and_then(|t| path(&t, "the `write_behind` crate", m)),
                    m,
                ),
                unknown => {
                    refuse(&meta, unknown, "struct", &STRUCT_WORDS, ("a field", &FIELD_WORDS), m);
                }
            }
        }
        words
    }
}

impl FieldWords {
    pub(crate) fn parse(attrs: &[Attribute], mistakes: &mut Mistakes) -> Self {
        let (metas, all_read) = metas(attrs, mistakes);
        let mut words = Self { tried_key: !all_read, ..Self::default() };
        for meta in metas {
            let m = &mut *mistakes;
            let word = word_of(&meta);
            words.tried_key |= nearest(&word, FIELD_WORDS) == Some("key");
            match word.as_str() {
                "key" => once(&mut words.key, &meta, flag(&meta, m), m),
                "rename" => once(&mut words.rename, &meta, text(&meta, m), m),
                "skip" => once(&mut words.skip, &meta, flag(&meta, m), m),
                "json" => once(&mut words.json, &meta, flag(&meta, m), m),
                "insert_only" => once(&mut words.insert_only, &meta, flag(&meta, m), m),
                "version" => once(&mut words.version, &meta, flag(&meta, m), m),
                "native_bson" => once(&mut words.native_bson, &meta, flag(&meta, m), m),
                "partition_by" => once(&mut words.partition_by, &meta, flag(&meta, m), m),
                "belongs_to" => {
                    once(&mut words.belongs_to, &meta, text(&meta, m).and_then(|t| path(&t, "an entity type", m)), m);
                }
                "counter" => once(&mut words.counter, &meta, text(&meta, m), m),
                unknown => {
                    refuse(&meta, unknown, "field", &FIELD_WORDS, ("the struct", &STRUCT_WORDS), m);
                }
            }
        }
        words
    }
}

/// The words of all `#[wb(...)]` attributes in `attrs`, and whether that is all of them.
fn metas(attrs: &[Attribute], mistakes: &mut Mistakes) -> (Vec<Meta>, bool) {
    let (mut metas, mut all_read) = (Vec::new(), true);
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("wb")) {
        match &attr.meta {
            Meta::List(list) => match list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) {
                Ok(words) => metas.extend(words),
                Err(error) => {
                    all_read = false;
                    mistakes.note_error(error);
                }
            },
            other => mistakes.note(other.span(), "`wb` needs words in parentheses; write `#[wb(...)]`"),
        }
    }
    (metas, all_read)
}

fn word_of(meta: &Meta) -> String {
    match meta.path().get_ident() {
        Some(ident) => ident.unraw().to_string(),
        None => meta.path().segments.iter().map(|s| s.ident.to_string()).collect::<Vec<_>>().join("::"),
    }
}

/// Keeps what was said, unless it was said before.
fn once<T>(slot: &mut Option<Said<T>>, meta: &Meta, said: Option<Said<T>>, mistakes: &mut Mistakes) {
    if slot.is_some() {
        mistakes.note(meta.path().span(), format_args!("`{}` is said twice; keep one", word_of(meta)));
    } else if said.is_some() {
        *slot = said;
    }
}

fn flag(meta: &Meta, mistakes: &mut Mistakes) -> Option<Said<()>> {
    let word = word_of(meta);
    match meta {
        Meta::Path(path) => Some(Said { span: path.span(), value: () }),
        Meta::List(list) => {
            mistakes.note(list.tokens.span(), format_args!("`{word}` takes no value; write `{word}` alone"));
            None
        }
        Meta::NameValue(pair) => {
            mistakes.note(pair.value.span(), format_args!("`{word}` takes no value; write `{word}` alone"));
            None
        }
    }
}

fn text(meta: &Meta, mistakes: &mut Mistakes) -> Option<Said<String>> {
    let word = word_of(meta);
    let Meta::NameValue(pair) = meta else {
        mistakes.note(meta.path().span(), format_args!("`{word}` needs a value; write `{word} = \"...\"`"));
        return None;
    };
    match literal(&pair.value) {
        Some(text) => Some(Said { span: text.span(), value: text.value() }),
        None => {
            mistakes.note(pair.value.span(), format_args!("`{word}` takes a text; write `{word} = \"...\"`"));
            None
        }
    }
}

/// A string literal, also one that a `macro_rules!` macro passed on in an invisible group.
pub(crate) fn literal(value: &Expr) -> Option<&LitStr> {
    match value {
        Expr::Lit(lit) => match &lit.lit {
            Lit::Str(text) => Some(text),
            _ => None,
        },
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

fn format(text: Said<String>, mistakes: &mut Mistakes) -> Option<Said<Format>> {
    let value = match text.value.as_str() {
        "json" => Format::Json,
        "msgpack" => Format::MessagePack,
        unknown => {
            let hint = hint(unknown, ["json", "msgpack"], "write `json` or `msgpack`");
            mistakes.note(text.span, format_args!("unknown format `{unknown}`; {hint}"));
            return None;
        }
    };
    Some(Said { span: text.span, value })
}

fn case(text: Said<String>, mistakes: &mut Mistakes) -> Option<Said<Case>> {
    let Some(value) = Case::from_word(&text.value) else {
        let rules = Case::words().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let hint = hint(&text.value, Case::words(), &format!("the rules are {rules}"));
        mistakes.note(text.span, format_args!("unknown case rule `{}`; {hint}", text.value));
        return None;
    };
    Some(Said { span: text.span, value })
}

fn path(text: &Said<String>, what: &str, mistakes: &mut Mistakes) -> Option<Said<Path>> {
    // The tokens take the literal's place, so that an unresolved path is shown there.
    match LitStr::new(&text.value, text.span).parse_with(Path::parse_mod_style) {
        Ok(value) => Some(Said { span: text.span, value }),
        Err(_) => {
            mistakes.note(text.span, format_args!("`{}` is no path; write the path of {what}", text.value));
            None
        }
    }
}

fn hint(unknown: &str, known: impl IntoIterator<Item = &'static str>, otherwise: &str) -> String {
    match nearest(unknown, known) {
        Some(word) => format!("did you mean `{word}`?"),
        None => otherwise.to_owned(),
    }
}

/// Notes a word that means nothing here, with the best advice there is.
fn refuse(
    meta: &Meta,
    unknown: &str,
    here: &str,
    known: &[&'static str],
    (elsewhere, known_elsewhere): (&str, &[&'static str]),
    mistakes: &mut Mistakes,
) {
    let span = meta.path().span();
    if known_elsewhere.contains(&unknown) {
        mistakes.note(span, format_args!("`{unknown}` says nothing on a {here}; move it to {elsewhere}"));
        return;
    }
    let words = known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let hint = hint(unknown, known.iter().copied(), &format!("a {here} takes {words}"));
    mistakes.note(span, format_args!("unknown word `{unknown}`; {hint}"));
}
