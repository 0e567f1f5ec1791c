//! Append-only entities, and what decides the partition of a record.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::Index;
use syn::spanned::Spanned;

use super::bounds;
use crate::ast::{Field, Input};
use crate::plan::Plan;

/// `impl AppendOnly`, where the struct says so.
pub(crate) fn append_only(input: &Input<'_>) -> Option<TokenStream> {
    input.words.append.as_ref()?;
    let krate = input.krate();
    let ident = input.ident;
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let bounds = bounds(input, &krate, &[]);
    Some(quote! {
        #[automatically_derived]
        impl #impl_generics #krate::__private::wb_core::AppendOnly for #ident #ty_generics #bounds {}
    })
}

/// `APPEND`, as an item of `impl Entity`.
pub(crate) fn append(input: &Input<'_>) -> Option<TokenStream> {
    input.words.append.as_ref()?;
    Some(quote!(
        const APPEND: ::core::primitive::bool = true;
    ))
}

/// `PLACED` and the two places, as items of `impl Entity`.
pub(super) fn place(plan: &Plan<'_>) -> Option<TokenStream> {
    let by = plan.place?;
    let core = {
        let krate = plan.input.krate();
        quote!(#krate::__private::wb_core)
    };
    let result = quote!(::core::result::Result<#core::Id, #core::KeyError>);
    let placed = quote!(
        const PLACED: ::core::primitive::bool = true;
    );
    // At the field's type: there it is shown that it has no text.
    let id = quote_spanned!(by.ty.span()=> #core::Id::of);
    let part = plan.keys.iter().position(|key| is_same(key, by)).map(|index| match plan.keys.as_slice() {
        [_] => quote!(key),
        _ => {
            let index = Index::from(index);
            quote!(&key.#index)
        }
    });
    Some(match part {
        Some(part) => quote! {
            #placed

            fn place_of(key: &Self::Key) -> #result {
                #id(#part)
            }
        },
        None => {
            let field = by.ident;
            quote! {
                #placed

                fn place(&self) -> #result {
                    #id(&self.#field)
                }
            }
        }
    })
}

fn is_same(one: &Field<'_>, other: &Field<'_>) -> bool {
    one.ident == other.ident
}
