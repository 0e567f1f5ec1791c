//! What is written beside mistakes: implementations without bodies, so that the mistakes are all there is to see.
//!
//! Without them every use of the struct as an entity would be an error of its own.

use proc_macro2::TokenStream;
use quote::quote;

use crate::ast::Input;
use crate::expand::{bounds, key_type, place};
use crate::foreign::SeaStruct;

pub(crate) fn expand(input: &Input<'_>) -> TokenStream {
    let krate = input.krate();
    let ident = input.ident;
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let keys = input.keys();
    let key = match keys.len() {
        1..=6 => key_type(&keys),
        _ => quote!(::core::primitive::u64),
    };
    let bounds = self::bounds(input, &krate, &[]);
    let core = quote!(#krate::__private::wb_core);
    let (append, append_only) = (place::append(input), place::append_only(input));
    let entity = quote! {
        #[automatically_derived]
        impl #impl_generics #core::Entity for #ident #ty_generics #bounds {
            type Key = #key;
            const NAME: &'static ::core::primitive::str = "";
            const FORMAT: #core::Format = #core::Format::Json;
            #append
            fn key(&self) -> #key { ::core::unreachable!() }
            fn encode(&self) -> ::core::result::Result<::std::vec::Vec<::core::primitive::u8>, #core::CodecError> {
                ::core::unreachable!()
            }
            fn decode(_: &[::core::primitive::u8]) -> ::core::result::Result<Self, #core::CodecError> {
                ::core::unreachable!()
            }
        }
    };
    let sql = (input.words.table.is_some() || input.sea == SeaStruct::Model).then(|| {
        let sql = quote!(#krate::__private::wb_sea_orm);
        quote! {
            #krate::__private::if_sea_orm! {
                #[automatically_derived]
                impl #impl_generics #sql::SqlEntity for #ident #ty_generics #bounds {
                    fn table() -> #sql::Table { ::core::unreachable!() }
                    fn bind(&self) -> ::core::result::Result<#sql::mapping::Values, #sql::SqlMappingError> {
                        ::core::unreachable!()
                    }
                    fn bind_key(_: &Self::Key) -> #sql::mapping::Values { ::core::unreachable!() }
                    fn key_of_row(
                        _: &#sql::sea_orm::QueryResult,
                    ) -> ::core::result::Result<Self::Key, #sql::sea_orm::DbErr> {
                        ::core::unreachable!()
                    }
                    fn from_row(
                        _: &#sql::sea_orm::QueryResult,
                    ) -> ::core::result::Result<Self, #sql::sea_orm::DbErr> {
                        ::core::unreachable!()
                    }
                }
            }
        }
    });
    let mongo = input.words.collection.is_some().then(|| {
        let mongo = quote!(#krate::__private::wb_mongo);
        let written = quote!(#ident #ty_generics: #mongo::mapping::Document);
        let bounds = self::bounds(input, &krate, &[written]);
        quote! {
            #krate::__private::if_mongo! {
                #[automatically_derived]
                impl #impl_generics #mongo::MongoEntity for #ident #ty_generics #bounds {
                    const COLLECTION: &'static ::core::primitive::str = "";
                    fn rules() -> &'static [#mongo::FieldRule<Self>] { &[] }
                    fn id_of(
                        _: &Self::Key,
                    ) -> ::core::result::Result<#mongo::bson::Bson, #mongo::MappingError> {
                        ::core::unreachable!()
                    }
                }
            }
        }
    });
    quote!(#entity #append_only #sql #mongo)
}
