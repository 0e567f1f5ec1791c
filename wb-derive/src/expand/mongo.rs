//! `impl MongoEntity`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::LitStr;
use syn::spanned::Spanned;

use super::{bounds, key_parts};
use crate::ast::{Field, Input};
use crate::foreign::Absent;
use crate::plan::{Form, Mongo, Plan, Rule, RuleKind};

pub(super) fn expand(plan: &Plan<'_>, mongo: &Mongo<'_>) -> TokenStream {
    let input = plan.input;
    let krate = input.krate();
    let path = quote!(#krate::__private::wb_mongo);
    let ident = input.ident;
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let generic: Vec<TokenStream> = mongo
        .rules
        .iter()
        .filter(|rule| input.is_generic(rule.field.ty))
        .filter_map(|rule| needs(rule, &path))
        .chain(mongo.id.iter().filter(|(_, ty, _)| input.is_generic(ty)).map(|(_, ty, form)| match form {
            Form::Native => quote!(#ty: #path::native::NativeField),
            Form::Serde | Form::NativeIfAny => quote!(#ty: #path::mapping::IdPart),
        }))
        .collect();
    let written = quote!(#ident #ty_generics: #path::mapping::Document);
    let bounds = bounds(input, &krate, &[generic, vec![written]].concat());
    let collection = &mongo.collection;
    let rules = rules(plan, mongo, &path);
    let version = mongo.version.as_ref().map(|name| {
        let text = quote!(&'static ::core::primitive::str);
        quote!(const VERSION: ::core::option::Option<#text> = ::core::option::Option::Some(#name);)
    });
    let merge = mongo.merge.then(|| {
        quote!(
            const MERGE: ::core::primitive::bool = true;
        )
    });
    let fields = mongo.fields.iter().map(|(name, field)| stored(input, name, field, &path));
    let keys = mongo.id.iter().map(|(name, ..)| name);
    let flattened = input.fields.iter().any(|field| field.serde.flatten.is_some()).then(|| {
        quote!(
            const FLATTENED: ::core::primitive::bool = true;
        )
    });
    let id = id(plan, mongo, &path);
    quote! {
        #[automatically_derived]
        impl #impl_generics #path::MongoEntity for #ident #ty_generics #bounds {
            const COLLECTION: &'static ::core::primitive::str = #collection;
            #version
            #merge
            const FIELDS: &'static [#path::StoredField] = &[#(#fields),*];
            #flattened
            const KEYS: &'static [&'static ::core::primitive::str] = &[#(#keys),*];

            fn rules() -> &'static [#path::FieldRule<Self>] {
                #rules
            }

            fn id_of(key: &Self::Key) -> ::core::result::Result<#path::bson::Bson, #path::MappingError> {
                #id
            }
        }
    }
}

fn stored(input: &Input<'_>, name: &LitStr, field: &Field<'_>, path: &TokenStream) -> TokenStream {
    let insert_only = field.words.insert_only.is_some().then(|| quote!(.insert_only()));
    let absent = match field.serde.default {
        Some(Absent::OfType) => Some(quote!(.absent(#path::Absent::Default))),
        Some(Absent::OfFunction) => Some(quote!(.absent(#path::Absent::Other))),
        None if input.serde.default => Some(quote!(.absent(#path::Absent::Other))),
        None => None,
    };
    quote!(#path::StoredField::new(#name) #insert_only #absent)
}

fn needs(rule: &Rule<'_>, path: &TokenStream) -> Option<TokenStream> {
    let ty = rule.field.ty;
    match rule.kind {
        RuleKind::Skip => Some(quote!(#ty: #path::mapping::SkippedField)),
        RuleKind::Native => Some(quote!(#ty: #path::native::NativeField)),
        RuleKind::NativeIfAny => None,
    }
}

fn rules(plan: &Plan<'_>, mongo: &Mongo<'_>, path: &TokenStream) -> TokenStream {
    let sifted = mongo.rules.iter().any(|rule| rule.kind == RuleKind::NativeIfAny);
    let rules = mongo.rules.iter().map(|rule| {
        let is_key = plan.keys.iter().any(|key| key.ident == rule.field.ident);
        let rule_of = self::rule(rule, is_key, path);
        match rule.kind {
            RuleKind::NativeIfAny => {
                let ty = rule.field.ty;
                quote_spanned! {ty.span()=>
                    if #path::native::Detect::<#ty>::IS_NATIVE {
                        ::core::option::Option::Some(#rule_of)
                    } else {
                        ::core::option::Option::None
                    }
                }
            }
            RuleKind::Skip | RuleKind::Native if sifted => quote!(::core::option::Option::Some(#rule_of)),
            RuleKind::Skip | RuleKind::Native => rule_of,
        }
    });
    if sifted {
        // Which types have a native form is known to the compiler, not here.
        quote! {
            use #path::native::NoNativeForm as _;
            (const { &#path::native::Sifted::new([#(#rules),*]) }).rules()
        }
    } else {
        quote!(const { &[#(#rules),*] })
    }
}

fn rule(rule: &Rule<'_>, is_key: bool, path: &TokenStream) -> TokenStream {
    let (field, ty, name) = (rule.field.ident, rule.field.ty, &rule.name);
    let form = match rule.kind {
        RuleKind::Skip => {
            return quote_spanned! {ty.span()=>
                #path::FieldRule::Skip { name: #name, default: <#ty as #path::mapping::SkippedField>::default_form }
            };
        }
        RuleKind::Native => quote_spanned!(ty.span()=> <#ty as #path::native::NativeField>),
        RuleKind::NativeIfAny => quote_spanned!(ty.span()=> #path::native::Detect::<#ty>),
    };
    // A key is what it is.
    let (cuts, cut) = if is_key {
        (quote!(|_: &Self| false), quote!(|_: &mut Self| {}))
    } else {
        (
            quote!(|entity: &Self| #form::has_rest(&entity.#field)),
            quote!(|entity: &mut Self| #form::drop_rest(&mut entity.#field)),
        )
    };
    quote_spanned! {ty.span()=>
        #path::FieldRule::Native {
            name: #name,
            store: |entity: &Self| #form::store(&entity.#field),
            load: #form::load,
            digits: #form::FRACTION,
            cuts: #cuts,
            cut: #cut,
        }
    }
}

fn id(plan: &Plan<'_>, mongo: &Mongo<'_>, path: &TokenStream) -> TokenStream {
    let parts = mongo.id.iter().zip(key_parts(&plan.keys)).map(|((name, ty, form), part)| {
        let part = match form {
            Form::Serde => quote_spanned!(ty.span()=> <#ty as #path::mapping::IdPart>::part(#part)),
            Form::Native => quote_spanned!(ty.span()=> <#ty as #path::native::NativeField>::store(#part)),
            Form::NativeIfAny => quote_spanned!(ty.span()=> #path::native::Detect::<#ty>::store(#part)),
        };
        (name, part)
    });
    let detects = mongo.id.iter().any(|(_, _, form)| *form == Form::NativeIfAny);
    let import = detects.then(|| quote!(use #path::native::NoNativeForm as _;));
    let id = match plan.keys.as_slice() {
        [_] => {
            let parts = parts.map(|(_, part)| part);
            quote!(#(#parts)*)
        }
        _ => {
            let parts = parts.map(|(name, part)| quote!((#name, #part?)));
            quote!(::core::result::Result::Ok(#path::mapping::id_document([#(#parts),*])))
        }
    };
    quote!(#import #id)
}
