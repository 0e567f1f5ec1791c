//! The patch of an entity: `PostPatch`, a field of which is `Some` where the record's is to be set.
//!
//! No implementation asks anything of the struct's fields. What a field lacks (`Clone` to be applied, `Deserialize` to be
//! read) is missing where the patch is used so, not where the entity is derived.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::{ToTokens, quote};

use super::bounds;
use crate::ast::{Field, Input};
use crate::change::{patch_name, patched};

/// What is emitted.
pub(super) struct Patch {
    /// The struct, which users must be able to name.
    pub(super) item: TokenStream,
    pub(super) implementations: TokenStream,
}

/// `None` when nothing of the record changes.
pub(super) fn expand(input: &Input<'_>) -> Option<Patch> {
    let fields: Vec<Part<'_, '_>> =
        patched(input).into_iter().map(|field| Part { field, ty: without_self(input, field.ty) }).collect();
    if fields.is_empty() {
        return None;
    }
    let name = patch_name(input)?;
    let output = Output { input, name, fields };
    Some(Patch { item: output.item(), implementations: output.implementations() })
}

struct Output<'i, 'a> {
    input: &'i Input<'a>,
    name: Ident,
    fields: Vec<Part<'i, 'a>>,
}

struct Part<'i, 'a> {
    field: &'i Field<'a>,
    ty: TokenStream,
}

impl Output<'_, '_> {
    fn item(&self) -> TokenStream {
        let Self { input, name, .. } = self;
        let (vis, ident, generics) = (input.vis, input.ident, input.generics);
        let where_clause = &generics.where_clause;
        let fields = self.fields.iter().map(|Part { field, ty }| {
            let (vis, ident, doc) = (field.vis, field.ident, format!("What `{}` is set to.", field.name()));
            quote! {
                #[doc = #doc]
                #vis #ident: ::core::option::Option<#ty>
            }
        });
        let marker = self.marker().map(|marker| {
            let (_, ty_generics, _) = generics.split_for_impl();
            quote! {
                #[doc(hidden)]
                pub #marker: ::core::marker::PhantomData<fn() -> #ident #ty_generics>,
            }
        });
        let doc = format!(
            "Changes to a [`{ident}`]: a field that is `Some` is set, all others are left alone.\n\n\
             Made by `#[derive(WriteBehind)]`; `#[wb(patch = \"...\")]` gives it another name."
        );
        let allow = input.deprecated.then(|| quote!(#[allow(deprecated)]));
        quote! {
            #[doc = #doc]
            #allow
            #[allow(dead_code, nonstandard_style, clippy::all, clippy::pedantic, clippy::nursery)]
            #vis struct #name #generics #where_clause {
                #(#fields,)*
                #marker
            }
        }
    }

    /// A field that uses the parameters of a generic struct, which the others may not do.
    fn marker(&self) -> Option<Ident> {
        let generic = !self.input.generics.params.is_empty();
        generic.then(|| Ident::new("__entity", proc_macro2::Span::call_site()))
    }

    fn implementations(&self) -> TokenStream {
        let parts = [self.default(), self.clone(), self.debug(), self.eq(), self.apply(), self.deserialize()];
        quote!(#(#parts)*)
    }

    /// The where clause of an implementation: the struct's own, and `bound` of each field's type.
    ///
    /// A lifetime that stands for every one keeps the compiler from judging a bound before it is used.
    fn each(&self, bound: &TokenStream) -> TokenStream {
        let own = self.own();
        let types = self.fields.iter().map(|part| &part.ty);
        quote!(where #(#own,)* #(for<'wb> #types: #bound,)*)
    }

    fn own(&self) -> Vec<TokenStream> {
        let clause = self.input.generics.where_clause.iter();
        clause.flat_map(|clause| clause.predicates.iter()).map(ToTokens::to_token_stream).collect()
    }

    fn default(&self) -> TokenStream {
        let name = &self.name;
        let (impl_generics, ty_generics, where_clause) = self.input.generics.split_for_impl();
        let fields = self.fields.iter().map(|part| part.field.ident);
        let marker = self.marker().map(|marker| quote!(#marker: ::core::marker::PhantomData,));
        quote! {
            #[automatically_derived]
            impl #impl_generics ::core::default::Default for #name #ty_generics #where_clause {
                fn default() -> Self {
                    Self { #(#fields: ::core::option::Option::None,)* #marker }
                }
            }
        }
    }

    fn clone(&self) -> TokenStream {
        let name = &self.name;
        let (impl_generics, ty_generics, _) = self.input.generics.split_for_impl();
        let bounds = self.each(&quote!(::core::clone::Clone));
        let fields = self.fields.iter().map(|part| part.field.ident);
        let marker = self.marker().map(|marker| quote!(#marker: ::core::marker::PhantomData,));
        quote! {
            #[automatically_derived]
            impl #impl_generics ::core::clone::Clone for #name #ty_generics #bounds {
                fn clone(&self) -> Self {
                    Self { #(#fields: ::core::clone::Clone::clone(&self.#fields),)* #marker }
                }
            }
        }
    }

    fn debug(&self) -> TokenStream {
        let (name, text) = (&self.name, self.name.to_string());
        let (impl_generics, ty_generics, _) = self.input.generics.split_for_impl();
        let bounds = self.each(&quote!(::core::fmt::Debug));
        let fields = self.fields.iter().map(|part| {
            let (ident, name) = (part.field.ident, part.field.name());
            quote! {
                if let ::core::option::Option::Some(value) = &self.#ident {
                    fields.field(#name, value);
                }
            }
        });
        quote! {
            #[automatically_derived]
            impl #impl_generics ::core::fmt::Debug for #name #ty_generics #bounds {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    let mut fields = ::core::fmt::Formatter::debug_struct(f, #text);
                    #(#fields)*
                    fields.finish_non_exhaustive()
                }
            }
        }
    }

    fn eq(&self) -> TokenStream {
        let name = &self.name;
        let (impl_generics, ty_generics, _) = self.input.generics.split_for_impl();
        let bounds = self.each(&quote!(::core::cmp::PartialEq));
        let fields = self.fields.iter().map(|part| part.field.ident);
        quote! {
            #[automatically_derived]
            impl #impl_generics ::core::cmp::PartialEq for #name #ty_generics #bounds {
                fn eq(&self, other: &Self) -> ::core::primitive::bool {
                    #(::core::cmp::PartialEq::eq(&self.#fields, &other.#fields))&&*
                }
            }
        }
    }

    fn apply(&self) -> TokenStream {
        let (input, name) = (self.input, &self.name);
        let (krate, ident) = (input.krate(), input.ident);
        let core = quote!(#krate::__private::wb_core);
        let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
        let mut more: Vec<TokenStream> =
            self.fields.iter().map(|part| &part.ty).map(|ty| quote!(for<'wb> #ty: ::core::clone::Clone)).collect();
        if self.marker().is_some() {
            more.push(quote!(Self: ::core::marker::Send + 'static));
        }
        let entity = bounds(input, &krate, &[]);
        let bounds = if entity.is_empty() { quote!(where #(#more,)*) } else { quote!(#entity #(#more,)*) };
        let fields = self.fields.iter().map(|part| part.field.ident);
        quote! {
            #[automatically_derived]
            impl #impl_generics #core::Patch<#ident #ty_generics> for #name #ty_generics #bounds {
                fn apply(&self, entity: &mut #ident #ty_generics) {
                    #(
                        if let ::core::option::Option::Some(value) = &self.#fields {
                            ::core::clone::Clone::clone_from(&mut entity.#fields, value);
                        }
                    )*
                }
            }
        }
    }

    fn deserialize(&self) -> TokenStream {
        let (input, name, text) = (self.input, &self.name, self.name.to_string());
        let krate = input.krate();
        let patch = quote!(#krate::__private::wb_core::patch);
        let readers = self.fields.iter().enumerate().filter(|(_, part)| self.has_name(part));
        let readers: Vec<_> = readers.map(|(index, part)| Reader::new(input, index, part)).collect();

        let mut generics = input.generics.clone();
        generics.params.insert(0, syn::parse_quote!('wb));
        let (impl_generics, _, _) = generics.split_for_impl();
        let (_, ty_generics, _) = input.generics.split_for_impl();
        let own = self.own();
        let read = readers.iter().filter(|reader| reader.with.is_none()).map(|reader| reader.ty);
        let bounds = quote!(where #(#own,)* #(#read: #patch::serde::Deserialize<'wb>,)*);
        let with = readers.iter().filter_map(|reader| {
            let (index, ty, function) = (reader.index, reader.ty, reader.with?);
            Some(quote! {
                #[automatically_derived]
                impl #impl_generics #patch::ReadField<'wb, #index> for #name #ty_generics where #(#own,)* {
                    type Value = #ty;

                    fn read<Wb: #patch::serde::Deserializer<'wb>>(
                        from: Wb,
                    ) -> ::core::result::Result<#ty, Wb::Error> {
                        #function(from)
                    }
                }
            })
        });
        let names = readers.iter().map(|reader| &reader.name);
        let arms = readers.iter().map(|reader| {
            let (name, aliases, ident, index) =
                (&reader.name, &reader.field.serde.aliases, reader.field.ident, reader.index);
            match reader.with {
                Some(_) => quote!(#name #(| #aliases)* => #patch::set_with::<Self, #index, _>(&mut self.#ident, map)),
                None => quote!(#name #(| #aliases)* => #patch::set(&mut self.#ident, map)),
            }
        });
        let texts = quote!(&'static [&'static ::core::primitive::str]);
        quote! {
            #(#with)*

            #[automatically_derived]
            impl #impl_generics #patch::PatchFields<'wb> for #name #ty_generics #bounds {
                const NAME: &'static ::core::primitive::str = #text;
                const FIELDS: #texts = &[#(#names),*];

                #[allow(unreachable_patterns, unused_variables)]
                fn set<Wb: #patch::serde::de::MapAccess<'wb>>(
                    &mut self,
                    name: &::core::primitive::str,
                    map: &mut Wb,
                ) -> ::core::result::Result<#patch::Found, Wb::Error> {
                    match name {
                        #(#arms,)*
                        _ => ::core::result::Result::Ok(#patch::Found::Unknown),
                    }
                }
            }

            #[automatically_derived]
            impl #impl_generics #patch::serde::Deserialize<'wb> for #name #ty_generics #bounds {
                fn deserialize<Wb: #patch::serde::Deserializer<'wb>>(
                    from: Wb,
                ) -> ::core::result::Result<Self, Wb::Error> {
                    #patch::read(from)
                }
            }
        }
    }

    /// Whether a document has the field under a name of its own; what a generic field that the user's function reads
    /// asks of its parameters is not known here.
    fn has_name(&self, part: &Part<'_, '_>) -> bool {
        let serde = &part.field.serde;
        serde.flatten.is_none() && !(serde.read_with.is_some() && self.input.is_generic(part.field.ty))
    }
}

/// A field as it is read from a document.
struct Reader<'p> {
    field: &'p Field<'p>,
    ty: &'p TokenStream,
    index: usize,
    name: String,
    with: Option<&'p syn::ExprPath>,
}

impl<'p> Reader<'p> {
    fn new(input: &Input<'_>, index: usize, part: &'p Part<'p, 'p>) -> Self {
        let name = part.field.name_when_read(&input.serde);
        Self { field: part.field, ty: &part.ty, index, name, with: part.field.serde.read_with.as_ref() }
    }
}

/// The type with the struct's name where it says `Self`, which is another struct in the patch.
fn without_self(input: &Input<'_>, ty: &syn::Type) -> TokenStream {
    fn replace(tokens: TokenStream, with: &TokenStream) -> TokenStream {
        let replaced = tokens.into_iter().map(|token| match token {
            TokenTree::Ident(ident) if ident == "Self" => with.clone(),
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), replace(group.stream(), with));
                inner.set_span(group.span());
                TokenTree::Group(inner).into()
            }
            other => other.into(),
        });
        replaced.collect()
    }
    let ident = input.ident;
    let (_, ty_generics, _) = input.generics.split_for_impl();
    replace(ty.to_token_stream(), &quote!(#ident #ty_generics))
}
