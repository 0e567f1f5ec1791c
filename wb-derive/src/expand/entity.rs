//! `impl Entity`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::{bounds, cast, key_type, place};
use crate::attr::Format;
use crate::plan::Plan;

pub(super) fn expand(plan: &Plan<'_>) -> TokenStream {
    let input = plan.input;
    let krate = input.krate();
    let core = quote!(#krate::__private::wb_core);
    let ident = input.ident;
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let bounds = bounds(input, &krate, &[]);
    let key_type = key_type(&plan.keys);
    let parts = plan.keys.iter().map(|key| {
        let field = key.ident;
        quote!(::core::clone::Clone::clone(&self.#field))
    });
    let key = match plan.keys.as_slice() {
        [_] => quote!(#(#parts)*),
        _ => quote!((#(#parts,)*)),
    };
    let name = &plan.name;
    let format = match plan.format {
        Format::Json => quote!(#core::Format::Json),
        Format::MessagePack => quote!(#core::Format::MessagePack),
    };
    let versioned = plan.version.map(|_| {
        quote!(
            const VERSIONED: ::core::primitive::bool = true;
        )
    });
    let version = plan.version.map(|field| {
        let (version, cast) = (field.ident, cast(field.ty, &quote!(#core::VersionField)));
        quote! {
            fn version(&self) -> ::core::option::Option<::core::primitive::i64> {
                ::core::option::Option::Some(#cast::to_version(&self.#version))
            }

            fn set_version(&mut self, version: ::core::primitive::i64) -> ::core::primitive::bool {
                match #cast::from_version(version) {
                    ::core::option::Option::Some(version) => {
                        self.#version = version;
                        true
                    }
                    ::core::option::Option::None => false,
                }
            }
        }
    });
    let parents: Vec<_> = input.fields.iter().filter_map(|field| field.words.belongs_to.as_ref()).collect();
    let parents = (!parents.is_empty()).then(|| {
        let text = quote!(&'static ::core::primitive::str);
        let names = parents.iter().map(|said| {
            let parent = &said.value;
            // At the word, where an entity is missing when one is.
            quote_spanned!(said.span=> <#parent as #core::Entity>::NAME)
        });
        quote!(const PARENTS: &'static [#text] = &[#(#names),*];)
    });
    let omitted: Vec<_> = input.fields.iter().filter(|field| field.serde.omitted).collect();
    let omits = (!omitted.is_empty()).then(|| {
        let text = quote!(&'static ::core::primitive::str);
        let names = omitted.iter().map(|field| field.document_name(&input.serde));
        quote!(const OMITS: &'static [#text] = &[#(#names),*];)
    });
    let (append, place) = (place::append(input), place::place(plan));
    // At the struct's name: there serde's derives are missing when they are.
    let payload = quote_spanned!(ident.span()=> <Self as #core::codec::Payload>);
    quote! {
        #[automatically_derived]
        impl #impl_generics #core::Entity for #ident #ty_generics #bounds {
            type Key = #key_type;
            const NAME: &'static ::core::primitive::str = #name;
            const FORMAT: #core::Format = #format;
            #versioned
            #parents
            #omits
            #append

            fn key(&self) -> Self::Key {
                #key
            }

            #place

            #version

            fn fields() -> ::core::option::Option<&'static [&'static ::core::primitive::str]> {
                #payload::payload_fields()
            }

            fn encode(&self) -> ::core::result::Result<::std::vec::Vec<::core::primitive::u8>, #core::CodecError> {
                #payload::to_payload(self, <Self as #core::Entity>::FORMAT)
            }

            fn decode(payload: &[::core::primitive::u8]) -> ::core::result::Result<Self, #core::CodecError> {
                #payload::from_payload(<Self as #core::Entity>::FORMAT, payload)
            }
        }
    }
}
