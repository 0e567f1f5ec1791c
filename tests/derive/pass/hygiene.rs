//! Names that shadow everything the output could lean on.

#![deny(warnings, missing_docs, unused, nonstandard_style, rust_2018_idioms)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery)]
#![allow(unreachable_pub, reason = "a library's structs are public; this is a test's only crate")]

mod write_behind {}
mod std {}
mod core {}
mod serde {}
mod sea_orm {}
mod bson {}
mod alloc {}

/// Every derive sees these instead of the prelude's.
mod shadowed {
    #![allow(dead_code, non_camel_case_types)]

    use ::core::primitive as real;

    pub struct Result;
    pub struct Option;
    pub struct Entity;
    pub struct String;
    pub struct Vec;
    pub struct Key;
    pub struct Box;
    pub struct Default;
    pub struct Clone;
    pub enum Ok {}
    pub enum Err {}
    pub enum Some {}
    pub enum None {}
    pub trait Into {}
    pub trait From {}

    #[derive(::core::clone::Clone, ::serde::Serialize, ::serde::Deserialize, ::write_behind::WriteBehind)]
    #[wb(name = "shadowed", table = "shadowed", collection = "shadowed", native_bson, rename_all = "UPPERCASE")]
    pub struct Shadowed {
        #[wb(key)]
        pub(super) key: ::std::string::String,
        #[wb(key)]
        pub(super) row: real::u64,
        pub(super) entity: ::core::option::Option<::std::vec::Vec<real::i32>>,
        pub(super) r#type: ::chrono::DateTime<::chrono::Utc>,
        #[wb(json)]
        pub(super) payload: ::std::vec::Vec<::std::string::String>,
        #[wb(skip)]
        pub(super) r#move: real::u8,
        #[wb(belongs_to = "Self")]
        pub(super) r#in: ::core::option::Option<real::i64>,
        #[wb(version)]
        pub(super) r#fn: real::i64,
    }
}

/// Types with the names of primitive ones, which serde's own derives do not stand.
mod primitive {
    #![allow(dead_code, non_camel_case_types)]

    pub struct str;
    pub struct u8;
    pub struct u64;
    pub struct usize;
    pub struct bool;
    pub struct i64;

    #[derive(::core::clone::Clone, ::write_behind::WriteBehind)]
    #[wb(name = "primitive", table = "primitive", collection = "primitive", native_bson)]
    pub struct Primitive {
        #[wb(key)]
        pub(super) id: ::core::primitive::u64,
        #[wb(skip)]
        pub(super) memo: ::core::primitive::bool,
        #[wb(version)]
        pub(super) version: ::core::primitive::i64,
    }
}

impl ::serde::Serialize for primitive::Primitive {
    fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.id, self.memo, self.version).serialize(serializer)
    }
}

impl<'de> ::serde::Deserialize<'de> for primitive::Primitive {
    fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, memo, version) = ::serde::Deserialize::deserialize(deserializer)?;
        Ok(Self { id, memo, version })
    }
}

/// No prelude at all.
mod bare {
    #![no_implicit_prelude]

    #[derive(::core::clone::Clone, ::serde::Serialize, ::serde::Deserialize, ::write_behind::WriteBehind)]
    #[wb(name = "bare", table = "bare", collection = "bare")]
    pub struct Bare {
        #[wb(key)]
        pub(super) a: i64,
        #[wb(insert_only)]
        pub(super) b: ::core::option::Option<::std::string::String>,
        #[wb(json)]
        pub(super) c: ::std::vec::Vec<u8>,
        #[wb(skip)]
        pub(super) d: bool,
        #[wb(native_bson)]
        pub(super) e: ::uuid::Uuid,
        #[wb(version)]
        pub(super) f: u16,
        pub(super) g: ::core::primitive::u32,
        #[serde(default, rename = "aitch", alias = "h")]
        pub h: ::core::option::Option<f64>,
    }
}

/// Private, documented by nobody, in a style of its own, and never used but as an entity.
mod private {
    #![allow(dead_code, non_snake_case, non_camel_case_types, missing_docs)]

    #[derive(
        ::core::fmt::Debug, ::core::clone::Clone, ::serde::Serialize, ::serde::Deserialize, ::write_behind::WriteBehind,
    )]
    #[wb(name = "private", collection = "private", merge)]
    struct the_entity<T>
    where
        T: ::core::marker::Copy,
    {
        #[wb(key)]
        Id: u64,
        _1: i8,
        rowCount: usize,
        value: T,
    }
}

/// A library's, with lints that nobody else has on.
pub mod public {
    #![deny(missing_debug_implementations, unreachable_pub, unused_qualifications, single_use_lifetimes)]
    #![deny(unnameable_types, trivial_bounds, clippy::restriction)]
    #![allow(
        clippy::blanket_clippy_restriction_lints,
        clippy::arbitrary_source_item_ordering,
        clippy::exhaustive_structs,
        clippy::field_scoped_visibility_modifiers,
        clippy::absolute_paths,
        reason = "of this struct, not of the output"
    )]

    /// A point.
    #[derive(
        ::core::fmt::Debug, ::core::clone::Clone, ::serde::Serialize, ::serde::Deserialize, ::write_behind::WriteBehind,
    )]
    #[wb(name = "public", table = "public")]
    pub struct Public {
        /// Its key.
        #[wb(key)]
        pub id: u64,
        /// Across.
        pub across: f64,
        /// Up.
        pub up: ::core::option::Option<i32>,
    }
}

#[test]
fn compiles_and_works() {
    let bare = bare::Bare { a: 1, b: None, c: vec![1], d: true, e: ::uuid::Uuid::nil(), f: 1, g: 7, h: None };
    assert_eq!(::write_behind::Entity::key(&bare), 1);
    assert_eq!(::write_behind::Entity::key(&primitive::Primitive { id: 3, memo: true, version: 1 }), 3);
    let patch = bare::BarePatch { h: Some(Some(0.5)), ..::core::default::Default::default() };
    let mut patched = bare.clone();
    ::write_behind::Patch::apply(&patch, &mut patched);
    assert_eq!(bare::Bare::G.add(&mut patched, 1), Some(8));
    assert_eq!((patched.g, patched.h), (8, Some(0.5)));
    assert!(::write_behind::Entity::set_version(&mut patched, 2) && patched.f == 2);
    let _ = (bare.b, bare.c, bare.d, bare.e, bare.f, bare.g, bare.h);
    let shadowed = shadowed::Shadowed {
        key: "k".to_owned(),
        row: 2,
        entity: None,
        r#type: ::chrono::Utc::now(),
        payload: vec![],
        r#move: 0,
        r#in: ::core::option::Option::None,
        r#fn: 5,
    };
    assert_eq!(::write_behind::Entity::version(&shadowed), Some(5));
    assert_eq!(::write_behind::Entity::key(&shadowed), ("k".to_owned(), 2));
    assert_eq!(<shadowed::Shadowed as ::write_behind::Entity>::PARENTS, ["shadowed"]);
    let table = <shadowed::Shadowed as ::write_behind::SqlEntity>::table();
    assert_eq!(table.columns.last().map(|c| &*c.name), Some("FN"));
    let _ = (shadowed.entity, shadowed.r#type, shadowed.payload, shadowed.r#move, shadowed.r#in, shadowed.r#fn);
}
