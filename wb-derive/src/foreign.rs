//! What other derives' attributes say: serde's names, and SeaORM's marks of a `Model`.
//!
//! Both are read leniently: what is not understood is those derives' business and never an error here.

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, ExprPath, Ident, Meta, Token};

use crate::attr::literal;
use crate::case::Case;

/// What `#[serde(...)]` says on the struct.
#[derive(Default)]
pub(crate) struct SerdeStruct {
    /// The case rule of the fields' names when written.
    pub(crate) rename_all: Option<Case>,
    /// The same of the names that are read.
    pub(crate) rename_all_when_read: Option<Case>,
    /// Absent fields are those of a default of the struct.
    pub(crate) default: bool,
    /// Another type is written in the struct's place (`into`), so its fields' names are unknown.
    pub(crate) other_type: Option<Span>,
}

/// What `#[serde(...)]` says on a field.
#[derive(Default)]
pub(crate) struct SerdeField {
    /// The field's name when written.
    pub(crate) rename: Option<String>,
    /// The field's name when read.
    pub(crate) rename_when_read: Option<String>,
    /// More names that are read.
    pub(crate) aliases: Vec<String>,
    /// The function of the user's choice that reads the field.
    pub(crate) read_with: Option<ExprPath>,
    /// What an absent field is.
    pub(crate) default: Option<Absent>,
    /// The field is not written at all.
    pub(crate) skip: Option<Span>,
    /// The field is not written, or not read back: its value does not survive.
    pub(crate) lost: Option<Span>,
    /// The field is not written when a function of the user's choice says so.
    pub(crate) omitted: bool,
    /// The field's own fields take its place.
    pub(crate) flatten: Option<Span>,
    /// The field is written by functions of the user's choice.
    pub(crate) with: Option<Span>,
}

/// What `#[serde(default)]` on a field means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    OfType,
    OfFunction,
}

/// What `#[sea_orm(...)]` says on a field.
#[derive(Default)]
pub(crate) struct SeaField {
    pub(crate) primary_key: bool,
    /// The field is no column.
    pub(crate) ignore: bool,
    /// The name of the column's variant in `Column`.
    pub(crate) enum_name: Option<String>,
}

impl SerdeStruct {
    pub(crate) fn parse(attrs: &[Attribute]) -> Self {
        let mut said = Self::default();
        for meta in metas(attrs, "serde") {
            if meta.path().is_ident("rename_all") {
                said.rename_all = name_when_written(&meta).as_deref().and_then(Case::from_word);
                said.rename_all_when_read = name_when_read(&meta).as_deref().and_then(Case::from_word);
            } else if meta.path().is_ident("into") {
                said.other_type = Some(meta.span());
            } else if meta.path().is_ident("default") {
                said.default = true;
            }
        }
        said
    }
}

impl SerdeField {
    pub(crate) fn parse(attrs: &[Attribute]) -> Self {
        let mut said = Self::default();
        for meta in metas(attrs, "serde") {
            let path = meta.path();
            if path.is_ident("rename") {
                said.rename = name_when_written(&meta);
                said.rename_when_read = name_when_read(&meta);
            } else if path.is_ident("alias") {
                said.aliases.extend(name_when_read(&meta));
            } else if path.is_ident("skip") || path.is_ident("skip_serializing") {
                said.skip = Some(path.span());
                said.lost = Some(path.span());
            } else if path.is_ident("skip_deserializing") {
                said.lost = Some(path.span());
            } else if path.is_ident("skip_serializing_if") {
                said.omitted = true;
            } else if path.is_ident("default") {
                said.default = Some(if matches!(meta, Meta::Path(_)) { Absent::OfType } else { Absent::OfFunction });
            } else if path.is_ident("flatten") {
                said.flatten = Some(path.span());
            } else if ["with", "serialize_with", "deserialize_with"].iter().any(|word| path.is_ident(word)) {
                said.with = Some(path.span());
                said.read_with = said.read_with.or_else(|| read_with(&meta));
            }
        }
        said
    }
}

impl SeaField {
    pub(crate) fn parse(attrs: &[Attribute]) -> Self {
        let mut said = Self::default();
        for meta in metas(attrs, "sea_orm") {
            if meta.path().is_ident("primary_key") {
                said.primary_key = true;
            } else if meta.path().is_ident("ignore") {
                said.ignore = true;
            } else if meta.path().is_ident("enum_name") {
                said.enum_name = name_when_written(&meta);
            }
        }
        said
    }
}

/// What a struct is to SeaORM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeaStruct {
    /// Nothing.
    Plain,
    /// The `Model` of an entity.
    Model,
    /// The `ModelEx` that `#[sea_orm::model]` makes beside it, with the relations in it.
    ModelEx,
}

impl SeaStruct {
    pub(crate) fn parse(ident: &syn::Ident, attrs: &[Attribute]) -> Self {
        if !attrs.iter().any(|attr| attr.path().is_ident("sea_orm")) {
            Self::Plain
        } else if ident == "ModelEx" {
            // A derive that is written plainly under `#[sea_orm::model]` is put on this struct too.
            Self::ModelEx
        } else {
            Self::Model
        }
    }
}

/// The words of all attributes of that name that have the usual form.
fn metas(attrs: &[Attribute], name: &str) -> Vec<Meta> {
    attrs
        .iter()
        .filter(|attr| attr.path().is_ident(name))
        .filter_map(|attr| match &attr.meta {
            Meta::List(list) => list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok(),
            _ => None,
        })
        .flatten()
        .collect()
}

/// `rename = "name"`, or the `serialize` part of `rename(serialize = "name", deserialize = "other")`.
fn name_when_written(meta: &Meta) -> Option<String> {
    name_in(meta, "serialize")
}

/// The same of the `deserialize` part.
fn name_when_read(meta: &Meta) -> Option<String> {
    name_in(meta, "deserialize")
}

fn name_in(meta: &Meta, way: &str) -> Option<String> {
    match meta {
        Meta::NameValue(pair) => literal(&pair.value).map(syn::LitStr::value),
        Meta::List(list) => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .ok()?
            .iter()
            .find(|part| part.path().is_ident(way))
            .and_then(|part| name_in(part, way)),
        Meta::Path(_) => None,
    }
}

/// `deserialize_with = "function"`, or the function of that name in `with = "module"`.
fn read_with(meta: &Meta) -> Option<ExprPath> {
    let Meta::NameValue(pair) = meta else { return None };
    let text = literal(&pair.value)?;
    let mut path: ExprPath = text.parse().ok()?;
    if meta.path().is_ident("with") {
        path.path.segments.push(Ident::new("deserialize", text.span()).into());
    } else if !meta.path().is_ident("deserialize_with") {
        return None;
    }
    Some(path)
}
