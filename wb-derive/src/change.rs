//! Changes to a part of a value: which fields have a counter, and which are in the patch.

use heck::ToShoutySnakeCase;
use proc_macro2::Span;
use syn::{Ident, Type};

use crate::ast::{Field, Input};
use crate::foreign::SeaStruct;

const NUMBERS: [&str; 12] = ["i8", "i16", "i32", "i64", "isize", "u8", "u16", "u32", "u64", "usize", "f32", "f64"];

/// A field that can be counted.
pub(crate) struct Counted<'i, 'a> {
    pub(crate) field: &'i Field<'a>,
    /// Name of the constant.
    pub(crate) name: String,
    /// Where it was named: at the word, or at the field.
    pub(crate) span: Span,
}

impl Counted<'_, '_> {
    /// The constant; `None` when its name is none.
    pub(crate) fn ident(&self) -> Option<Ident> {
        identifier(&self.name, self.span)
    }
}

/// The counters: of every plain number that is kept and changes, and of what is marked with `counter`.
pub(crate) fn counters<'i, 'a>(input: &'i Input<'a>) -> Vec<Counted<'i, 'a>> {
    if input.words.append.is_some() {
        return Vec::new();
    }
    let counted = input.fields.iter().filter(|field| changes(input, field) && field.words.skip.is_none());
    let counted = counted.filter_map(|field| match &field.words.counter {
        Some(said) => Some(Counted { field, name: said.value.clone(), span: said.span }),
        None if is_number(field.ty) => Some(Counted { field, name: constant(field), span: field.ident.span() }),
        None => None,
    });
    counted.collect()
}

/// The fields of the patch: all that may change after the record was made.
pub(crate) fn patched<'i, 'a>(input: &'i Input<'a>) -> Vec<&'i Field<'a>> {
    if input.words.append.is_some() {
        return Vec::new();
    }
    input.fields.iter().filter(|field| changes(input, field)).collect()
}

/// The patch's name and where it was said; `None` when it is no name.
pub(crate) fn patch_name(input: &Input<'_>) -> Option<Ident> {
    match &input.words.patch {
        Some(said) => identifier(&said.value, said.span),
        None => Some(quote::format_ident!("{}Patch", input.ident)),
    }
}

/// A field that changes, and whose change is kept: the key never does, a version is raised by itself, what is written on
/// insert only is never updated, and what serde loses is gone before it could be stored.
fn changes(input: &Input<'_>, field: &Field<'_>) -> bool {
    let words = &field.words;
    let primary = input.sea == SeaStruct::Model && field.sea.primary_key;
    let fixed = primary || words.key.is_some() || words.version.is_some() || words.insert_only.is_some();
    !fixed && field.serde.lost.is_none()
}

/// `i64`, also as `core::primitive::i64`.
fn is_number(ty: &Type) -> bool {
    let path = match ty {
        Type::Path(path) if path.qself.is_none() => &path.path,
        Type::Group(group) => return is_number(&group.elem),
        _ => return false,
    };
    let mut words = path.segments.iter().rev();
    let Some(last) = words.next().filter(|last| last.arguments.is_none()) else { return false };
    let known = NUMBERS.iter().any(|number| last.ident == number);
    let around: Vec<_> = words.map(|word| word.ident.to_string()).collect();
    let around: Vec<_> = around.iter().map(String::as_str).collect();
    known && matches!(around.as_slice(), [] | ["primitive", "core" | "std"])
}

/// The constant of a field: its name in capitals.
fn constant(field: &Field<'_>) -> String {
    let name = field.name();
    let shouted = name.to_shouty_snake_case();
    // What begins with a digit behind its underscore would be no name any more.
    if identifier(&shouted, Span::call_site()).is_some() { shouted } else { name.to_uppercase() }
}

fn identifier(name: &str, span: Span) -> Option<Ident> {
    let mut ident = syn::parse_str::<Ident>(name).ok()?;
    ident.set_span(span);
    Some(ident)
}
