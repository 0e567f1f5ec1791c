//! `impl SqlEntity` of a struct that names its table.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use super::{bounds, cast, key_parts, references, tuple};
use crate::plan::{Column, Plan, Stored, Table};

pub(super) fn expand(plan: &Plan<'_>, table: &Table<'_>) -> TokenStream {
    let input = plan.input;
    let krate = input.krate();
    let sql = quote!(#krate::__private::wb_sea_orm);
    let ident = input.ident;
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let generic: Vec<TokenStream> = table
        .columns
        .iter()
        .filter(|column| input.is_generic(column.field.ty))
        .map(|column| {
            let (ty, needed) = (column.field.ty, role(column, &sql));
            quote!(#ty: #needed)
        })
        .collect();
    let bounds = bounds(input, &krate, &generic);

    let schema = match &table.schema {
        Some(schema) => quote!(::core::option::Option::Some(#schema)),
        None => quote!(::core::option::Option::None),
    };
    let name = &table.name;
    let client_keys = input.words.client_keys.is_some().then(|| quote!(.client_keys()));
    let columns = table.columns.iter().filter_map(|column| {
        let version = plan.version.is_some_and(|version| version.ident == column.field.ident);
        self::column(column, version, &sql)
    });
    let key_columns = table.columns.iter().filter(|c| matches!(c.stored, Stored::Value { key: true, .. }));
    let key = tuple(key_columns.map(|column| read(column, &sql)).collect());
    let values = table.columns.iter().filter_map(|column| value(column, &sql));
    let stored = || table.columns.iter().filter(|column| column.stored != Stored::Not).enumerate();
    let storable = stored().map(|(index, column)| storable(column, index, &sql));
    let (cuts, cut) = cuts(stored(), &sql);
    let key_values = plan.keys.iter().zip(key_parts(&plan.keys)).map(|(key, part)| {
        let cast = cast(key.ty, &quote!(#sql::mapping::SqlField));
        quote!(#cast::to_value(#part))
    });
    let references = references(
        table.columns.iter().map(|column| {
            let name = &column.name;
            (column.field, quote!(#name))
        }),
        &sql,
    );
    let fields = table.columns.iter().map(|column| load(column, &sql));
    quote! {
        #[automatically_derived]
        impl #impl_generics #sql::SqlEntity for #ident #ty_generics #bounds {
            fn table() -> #sql::Table {
                #sql::Table::new(#schema, #name, [#(#columns),*]) #client_keys
            }

            fn bind(&self) -> ::core::result::Result<#sql::mapping::Values, #sql::SqlMappingError> {
                ::core::result::Result::Ok(#sql::mapping::values([#(#values),*]))
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

/// The trait that does a field's work.
fn role(column: &Column<'_>, sql: &TokenStream) -> TokenStream {
    match column.stored {
        Stored::Value { .. } => quote!(#sql::mapping::SqlField),
        Stored::Json { .. } => quote!(#sql::mapping::JsonField),
        Stored::Not => quote!(::core::default::Default),
    }
}

fn column(column: &Column<'_>, version: bool, sql: &TokenStream) -> Option<TokenStream> {
    let (key, insert_only) = match column.stored {
        Stored::Value { key, insert_only } => (key, insert_only),
        Stored::Json { insert_only } => (false, insert_only),
        Stored::Not => return None,
    };
    let cast = cast(column.field.ty, &role(column, sql));
    let name = &column.name;
    let key = key.then(|| quote!(.key()));
    let insert_only = insert_only.then(|| quote!(.insert_only()));
    let version = version.then(|| quote!(.version()));
    Some(quote!(#cast::column(#name) #key #insert_only #version))
}

fn value(column: &Column<'_>, sql: &TokenStream) -> Option<TokenStream> {
    let (field, name) = (column.field.ident, &column.name);
    let cast = cast(column.field.ty, &role(column, sql));
    match column.stored {
        Stored::Value { .. } => Some(quote!(#cast::to_value(&self.#field))),
        Stored::Json { .. } => Some(quote!(#cast::to_value(&self.#field, #name)?)),
        Stored::Not => None,
    }
}

fn storable(column: &Column<'_>, index: usize, sql: &TokenStream) -> TokenStream {
    let (field, name) = (column.field.ident, &column.name);
    let cast = cast(column.field.ty, &role(column, sql));
    quote!(#cast::storable(&self.#field, #name, #index, columns)?)
}

/// Whether a field is cut, and cutting it: all but keys and JSON.
fn cuts<'a>(columns: impl Iterator<Item = (usize, &'a Column<'a>)>, sql: &TokenStream) -> (TokenStream, TokenStream) {
    let values = columns.filter(|(_, column)| matches!(column.stored, Stored::Value { key: false, .. }));
    let parts = values.map(|(index, column)| {
        let (field, name) = (column.field.ident, &column.name);
        (field, column.field.ty, index, quote!(#name))
    });
    super::cuts(parts, sql)
}

fn load(column: &Column<'_>, sql: &TokenStream) -> TokenStream {
    let field = column.field.ident;
    let ty = column.field.ty;
    match column.stored {
        Stored::Value { .. } | Stored::Json { .. } => {
            let value = read(column, sql);
            quote!(#field: #value)
        }
        Stored::Not => {
            let cast = cast(ty, &role(column, sql));
            quote_spanned!(ty.span()=> #field: #cast::default())
        }
    }
}

/// The field of a stored column.
fn read(column: &Column<'_>, sql: &TokenStream) -> TokenStream {
    let (name, cast) = (&column.name, cast(column.field.ty, &role(column, sql)));
    quote!(#cast::from_row(row, #name)?)
}
