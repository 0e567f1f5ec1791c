//! The constants by which a field is counted: `Post::VIEWS`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use crate::ast::Input;
use crate::change::counters;

pub(super) fn expand(input: &Input<'_>) -> TokenStream {
    let core = {
        let krate = input.krate();
        quote!(#krate::__private::wb_core)
    };
    let constants: Vec<TokenStream> = counters(input)
        .iter()
        .filter_map(|counted| {
            let (name, field) = (counted.ident()?, counted.field);
            let (vis, ident, ty, text) = (field.vis, field.ident, field.ty, field.name());
            let doc = format!("Counter of `{text}`, to be incremented without reading it first.");
            // At the type, where it is shown what cannot be counted.
            let counter = quote_spanned!(ty.span()=> #core::Counter::<Self, #ty>);
            Some(quote! {
                #[doc = #doc]
                #vis const #name: #counter = #counter::new(#text, |entity: &mut Self| &mut entity.#ident);
            })
        })
        .collect();
    if constants.is_empty() {
        return TokenStream::new();
    }
    let ident = input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    quote! {
        #[allow(dead_code)]
        #[automatically_derived]
        impl #impl_generics #ident #ty_generics #where_clause {
            #(#constants)*
        }
    }
}
