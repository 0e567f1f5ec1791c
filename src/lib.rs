#![doc = include_str!("../README.md")]

pub use wb_core::*;

#[cfg(feature = "derive")]
pub use wb_derive::WriteBehind;

#[cfg(feature = "sea-orm")]
pub use wb_sea_orm as sql;
#[cfg(feature = "sea-orm")]
pub use wb_sea_orm::*;

#[cfg(feature = "mongo")]
pub use wb_mongo as mongo;

/// Paths that the derive's output names; not for use.
#[doc(hidden)]
pub mod __private {
    pub use wb_core;

    #[cfg(feature = "mongo")]
    pub use wb_mongo;
    #[cfg(feature = "sea-orm")]
    pub use wb_sea_orm;

    #[cfg(feature = "mongo")]
    pub use wb_core::__emit as if_mongo;
    #[cfg(not(feature = "mongo"))]
    pub use wb_core::__omit as if_mongo;

    #[cfg(feature = "sea-orm")]
    pub use wb_core::__emit as if_sea_orm;
    #[cfg(not(feature = "sea-orm"))]
    pub use wb_core::__omit as if_sea_orm;
}
