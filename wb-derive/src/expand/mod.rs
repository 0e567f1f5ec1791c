//! The output: one anonymous constant with the implementations in it, and beside it the patch, which users name. It names
//! nothing but absolute paths.

mod counters;
mod entity;
mod model;
mod mongo;
mod patch;
pub(crate) mod place;
mod sql;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Type};

use crate::ast::{Field, Input};
use crate::check::check;
use crate::ctxt::Mistakes;
use crate::fallback;
use crate::foreign::SeaStruct;
use crate::plan::{Plan, Sql};

/// Parse, check, expand.
pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let input = Input::parse(input, &mut mistakes);
    if input.sea == SeaStruct::ModelEx {
        // The record is the `Model`; its relations are records of their own.
        return TokenStream::new();
    }
    let plan = check(&input, &mut mistakes);
    let (errors, output) = match (mistakes.into_compile_errors(), plan) {
        (None, Some(plan)) => (TokenStream::new(), implementations(&plan)),
        (errors, _) => (errors.unwrap_or_default(), fallback::expand(&input)),
    };
    // Naming a deprecated field here is not the use that its author warns of.
    let allow = input.deprecated.then(|| quote!(#[allow(deprecated)]));
    let counters = counters::expand(&input);
    let patch = patch::expand(&input);
    let (patch_type, patch) = patch.map(|patch| (patch.item, patch.implementations)).unzip();
    quote! {
        #errors
        #patch_type
        #allow
        const _: () = { #output #counters #patch };
    }
}

fn implementations(plan: &Plan<'_>) -> TokenStream {
    let entity = entity::expand(plan);
    let krate = plan.input.krate();
    let sql = plan.sql.as_ref().map(|sql| {
        let body = match sql {
            Sql::Table(table) => sql::expand(plan, table),
            Sql::Model => model::expand(plan),
        };
        quote!(#krate::__private::if_sea_orm! { #body })
    });
    let mongo = plan.mongo.as_ref().map(|mongo| {
        let body = mongo::expand(plan, mongo);
        quote!(#krate::__private::if_mongo! { #body })
    });
    let append_only = place::append_only(plan.input);
    quote!(#entity #append_only #sql #mongo)
}

/// The key's type: the field's, or a tuple of theirs.
pub(crate) fn key_type(keys: &[&Field<'_>]) -> TokenStream {
    match keys {
        [key] => key.ty.to_token_stream(),
        keys => {
            let types = keys.iter().map(|key| key.ty);
            quote!((#(#types,)*))
        }
    }
}

/// A key made of these parts: the one itself, or a tuple of them.
fn tuple(parts: Vec<TokenStream>) -> TokenStream {
    match parts.as_slice() {
        [_] => quote!(#(#parts)*),
        _ => quote!((#(#parts,)*)),
    }
}

/// A reference to each part of a key that is at hand as `key`.
fn key_parts(keys: &[&Field<'_>]) -> Vec<TokenStream> {
    match keys {
        [_] => vec![quote!(key)],
        keys => (0..keys.len()).map(syn::Index::from).map(|index| quote!(&key.#index)).collect(),
    }
}

/// The where clause of every implementation: the struct's own, and for a generic struct what its fields need.
///
/// A struct without type parameters gets none, so that what is missing is shown at the field that lacks it.
pub(crate) fn bounds(input: &Input<'_>, krate: &TokenStream, more: &[TokenStream]) -> TokenStream {
    let mut clause: Vec<TokenStream> = input
        .generics
        .where_clause
        .iter()
        .flat_map(|clause| clause.predicates.iter())
        .map(ToTokens::to_token_stream)
        .collect();
    if input.generics.type_params().next().is_some() {
        let ident = input.ident;
        let (_, ty_generics, _) = input.generics.split_for_impl();
        clause.push(quote! {
            #ident #ty_generics: #krate::__private::wb_core::codec::Payload
                + ::core::marker::Send + ::core::marker::Sync + 'static
        });
        for key in input.keys().into_iter().filter(|key| input.is_generic(key.ty)) {
            let ty = key.ty;
            clause.push(quote!(#ty: #krate::__private::wb_core::KeyPart));
        }
        for (version, _) in input.versions().filter(|(version, _)| input.is_generic(version.ty)) {
            let ty = version.ty;
            clause.push(quote!(#ty: #krate::__private::wb_core::VersionField));
        }
        clause.extend(more.iter().cloned());
    }
    if clause.is_empty() { TokenStream::new() } else { quote!(where #(#clause,)*) }
}

/// `fn references`, where a field belongs to another entity; `column` is what the text of its column is made of.
fn references<'a>(
    fields: impl Iterator<Item = (&'a Field<'a>, TokenStream)>,
    sql: &TokenStream,
) -> Option<TokenStream> {
    let references: Vec<TokenStream> = fields
        .filter_map(|(field, column)| {
            let parent = &field.words.belongs_to.as_ref()?.value;
            Some(quote!(#sql::mapping::Parent::<#parent>::reference(#column)))
        })
        .collect();
    (!references.is_empty()).then(|| {
        quote! {
            fn references() -> #sql::mapping::References {
                // Which parents have a table is known to the compiler, not here.
                #[allow(unused_imports)]
                use #sql::mapping::NoTable as _;
                #sql::mapping::references([#(#references),*])
            }
        }
    })
}

/// The bodies of `cuts` and `cut`, of each field with the place and the name of its column.
fn cuts<'a>(
    fields: impl Iterator<Item = (&'a syn::Ident, &'a Type, usize, TokenStream)>,
    sql: &TokenStream,
) -> (TokenStream, TokenStream) {
    let (mut cuts, mut cut) = (Vec::new(), TokenStream::new());
    for (field, ty, index, name) in fields {
        let cast = cast(ty, &quote!(#sql::mapping::SqlField));
        cuts.push(quote!(#cast::cuts(&self.#field, #name, #index, columns)));
        cut.extend(quote!(#cast::cut(&mut self.#field, #name, #index, columns);));
    }
    (if cuts.is_empty() { quote!(false) } else { quote!(#(#cuts)||*) }, cut)
}

/// `<Ty as path>`, placed where the type is written, so that a missing implementation is shown there.
fn cast(ty: &Type, path: &TokenStream) -> TokenStream {
    quote_spanned!(ty.span()=> <#ty as #path>)
}
