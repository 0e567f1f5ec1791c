//! `impl SqlEntity` of a SeaORM `Model`: everything is asked of SeaORM at run time.

use heck::ToUpperCamelCase;
use proc_macro2::TokenStream;
use quote::quote;
use syn::Ident;

use super::{bounds, cast, cuts, key_parts, references, tuple};
use crate::ast::Field;
use crate::plan::Plan;

pub(super) fn expand(plan: &Plan<'_>) -> TokenStream {
    let input = plan.input;
    let krate = input.krate();
    let sql = quote!(#krate::__private::wb_sea_orm);
    let ident = input.ident;
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let bounds = bounds(input, &krate, &[]);
    let insert_only = input.fields.iter().filter(|field| field.words.insert_only.is_some()).map(|field| {
        let variant = column_variant(field);
        quote!(#sql::model::ColumnOf::<Self>::#variant)
    });
    let version = match plan.version.map(column_variant) {
        Some(variant) => quote!(::core::option::Option::Some(#sql::model::ColumnOf::<Self>::#variant)),
        None => quote!(::core::option::Option::None),
    };
    let client_keys = input.words.client_keys.is_some().then(|| quote!(.client_keys()));
    let key_fields = plan.keys.iter().map(|key| {
        let (cast, variant) = (cast(key.ty, &quote!(#sql::mapping::SqlField)), column_variant(key));
        quote!(#cast::from_row(row, #sql::model::name::<Self>(#sql::model::ColumnOf::<Self>::#variant))?)
    });
    let key = tuple(key_fields.collect());
    let key_values = plan.keys.iter().zip(key_parts(&plan.keys)).map(|(key, part)| {
        let cast = cast(key.ty, &quote!(#sql::mapping::SqlField));
        quote!(#cast::to_value(#part))
    });
    let name = |field: &Field<'_>| {
        let variant = column_variant(field);
        quote!(#sql::model::name::<Self>(#sql::model::ColumnOf::<Self>::#variant))
    };
    let stored = || input.fields.iter().filter(|field| !field.sea.ignore).enumerate();
    let storable = stored().map(|(index, field)| {
        let (cast, name, field) = (cast(field.ty, &quote!(#sql::mapping::SqlField)), name(field), field.ident);
        quote!(#cast::storable(&self.#field, #name, #index, columns)?)
    });
    let is_key = |field: &Field<'_>| plan.keys.iter().any(|key| key.ident == field.ident);
    let changing = stored().filter(|(_, field)| !is_key(field));
    let (cuts, cut) = cuts(changing.map(|(index, field)| (field.ident, field.ty, index, name(field))), &sql);
    let fields = input.fields.iter().map(|field| {
        let ident = field.ident;
        if field.sea.ignore {
            let cast = cast(field.ty, &quote!(::core::default::Default));
            return quote!(#ident: #cast::default());
        }
        let (cast, name) = (cast(field.ty, &quote!(#sql::mapping::SqlField)), name(field));
        quote!(#ident: #cast::from_row(row, #name)?)
    });
    let references = references(
        input.fields.iter().map(|field| {
            let variant = column_variant(field);
            (field, quote!(#sql::model::name::<Self>(#sql::model::ColumnOf::<Self>::#variant)))
        }),
        &sql,
    );
    quote! {
        #[automatically_derived]
        impl #impl_generics #sql::SqlEntity for #ident #ty_generics #bounds {
            fn table() -> #sql::Table {
                #sql::model::table::<Self>(&[#(#insert_only),*], #version) #client_keys
            }

            fn bind(&self) -> ::core::result::Result<#sql::mapping::Values, #sql::SqlMappingError> {
                ::core::result::Result::Ok(#sql::model::values(self))
            }

            fn storable(&self, columns: #sql::Columns<'_>) -> #sql::mapping::Storable {
                ::core::result::Result::Ok(#sql::mapping::bytes([#(#storable),*]))
            }

            #[allow(unused_variables)]
            fn cuts(&self, columns: #sql::Columns<'_>) -> ::core::primitive::bool {
                #cuts
            }

            #[allow(unused_variables)]
            fn cut(&mut self, columns: #sql::Columns<'_>) {
                #cut
            }

            #references

            fn bind_key(key: &Self::Key) -> #sql::mapping::Values {
                #sql::mapping::values([#(#key_values),*])
            }

            fn key_of_row(
                row: &#sql::sea_orm::QueryResult,
            ) -> ::core::result::Result<Self::Key, #sql::sea_orm::DbErr> {
                let key = #key;
                ::core::result::Result::Ok(key)
            }

            fn from_row(
                row: &#sql::sea_orm::QueryResult,
            ) -> ::core::result::Result<Self, #sql::sea_orm::DbErr> {
                ::core::result::Result::Ok(Self { #(#fields),* })
            }
        }
    }
}

/// The field's variant in `Column`, named as SeaORM's derive names it; a wrong guess would not compile.
fn column_variant(field: &Field<'_>) -> Ident {
    let name = match &field.sea.enum_name {
        Some(name) => name.clone(),
        None => field.name().to_upper_camel_case(),
    };
    Ident::new(&name, field.ident.span())
}
