//! The struct as it was written: names, types and what its attributes say. Nothing is judged here.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Fields, Generics, Ident, Type, Visibility};

use crate::attr::{FieldWords, StructWords};
use crate::case::Case;
use crate::ctxt::Mistakes;
use crate::foreign::{SeaField, SeaStruct, SerdeField, SerdeStruct};

/// The struct.
pub(crate) struct Input<'a> {
    pub(crate) vis: &'a Visibility,
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    pub(crate) words: StructWords,
    pub(crate) serde: SerdeStruct,
    pub(crate) sea: SeaStruct,
    pub(crate) fields: Vec<Field<'a>>,
    /// A `#[deprecated]` somewhere: the output names the field all the same.
    pub(crate) deprecated: bool,
}

/// A field of it.
pub(crate) struct Field<'a> {
    pub(crate) vis: &'a Visibility,
    pub(crate) ident: &'a Ident,
    pub(crate) ty: &'a Type,
    pub(crate) words: FieldWords,
    pub(crate) serde: SerdeField,
    pub(crate) sea: SeaField,
}

impl<'a> Input<'a> {
    /// Reads the struct; what is no struct with named fields has no fields here, and a mistake is noted.
    pub(crate) fn parse(input: &'a DeriveInput, mistakes: &mut Mistakes) -> Self {
        let sea = SeaStruct::parse(&input.ident, &input.attrs);
        Self {
            vis: &input.vis,
            ident: &input.ident,
            generics: &input.generics,
            words: StructWords::parse(&input.attrs, mistakes),
            serde: SerdeStruct::parse(&input.attrs),
            sea,
            fields: fields(input, mistakes),
            deprecated: is_deprecated(input),
        }
    }

    /// The path of the crate that the output names.
    pub(crate) fn krate(&self) -> TokenStream {
        match &self.words.krate {
            Some(said) => said.value.to_token_stream(),
            None => quote!(::write_behind),
        }
    }

    /// The key fields, in declaration order: SeaORM's mark counts like ours on a `Model`.
    pub(crate) fn keys(&self) -> Vec<&Field<'a>> {
        let sea = self.sea == SeaStruct::Model;
        self.fields.iter().filter(|f| f.words.key.is_some() || (sea && f.sea.primary_key)).collect()
    }

    /// The fields that are marked as the version.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (&Field<'a>, Span)> {
        self.fields.iter().filter_map(|field| Some((field, field.words.version.as_ref()?.span)))
    }

    /// Does the type name a type parameter of the struct?
    pub(crate) fn is_generic(&self, ty: &Type) -> bool {
        let params: Vec<&Ident> = self.generics.type_params().map(|param| &param.ident).collect();
        !params.is_empty() && names_any(ty.to_token_stream(), &params)
    }
}

impl Field<'_> {
    /// The field's name, without `r#`.
    pub(crate) fn name(&self) -> String {
        self.ident.unraw().to_string()
    }

    /// The field's name in serde's documents.
    pub(crate) fn document_name(&self, serde: &SerdeStruct) -> String {
        named(self.name(), self.serde.rename.as_ref(), serde.rename_all)
    }

    /// The field's name in documents that serde reads; the same, unless its names for the two ways differ.
    pub(crate) fn name_when_read(&self, serde: &SerdeStruct) -> String {
        named(self.name(), self.serde.rename_when_read.as_ref(), serde.rename_all_when_read)
    }
}

fn named(name: String, rename: Option<&String>, rename_all: Option<Case>) -> String {
    match (rename, rename_all) {
        (Some(rename), _) => rename.clone(),
        (None, Some(case)) => case.apply(&name),
        (None, None) => name,
    }
}

fn names_any(tokens: TokenStream, idents: &[&Ident]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => idents.contains(&&ident),
        TokenTree::Group(group) => names_any(group.stream(), idents),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

fn fields<'a>(input: &'a DeriveInput, mistakes: &mut Mistakes) -> Vec<Field<'a>> {
    let ident = &input.ident;
    let advice = "derive it for a struct with named fields";
    let fields = match &input.data {
        Data::Struct(data) => &data.fields,
        Data::Enum(data) => {
            mistakes.note(data.enum_token.span, format_args!("`{ident}` is an enum, which is no record; {advice}"));
            return Vec::new();
        }
        Data::Union(data) => {
            mistakes.note(data.union_token.span, format_args!("`{ident}` is a union, which is no record; {advice}"));
            return Vec::new();
        }
    };
    let named = match fields {
        Fields::Named(named) => named,
        Fields::Unnamed(_) => {
            mistakes
                .note(ident.span(), format_args!("`{ident}` is a tuple struct, its fields have no names; {advice}"));
            return Vec::new();
        }
        Fields::Unit => {
            mistakes.note(ident.span(), format_args!("`{ident}` has no fields, so it has no key; {advice}"));
            return Vec::new();
        }
    };
    named
        .named
        .iter()
        .filter_map(|field| {
            Some(Field {
                vis: &field.vis,
                ident: field.ident.as_ref()?,
                ty: &field.ty,
                words: FieldWords::parse(&field.attrs, mistakes),
                serde: SerdeField::parse(&field.attrs),
                sea: SeaField::parse(&field.attrs),
            })
        })
        .collect()
}

fn is_deprecated(input: &DeriveInput) -> bool {
    let said = |attrs: &[syn::Attribute]| attrs.iter().any(|attr| attr.path().is_ident("deprecated"));
    let on_field = match &input.data {
        Data::Struct(data) => data.fields.iter().any(|field| said(&field.attrs)),
        _ => false,
    };
    said(&input.attrs) || on_field
}
