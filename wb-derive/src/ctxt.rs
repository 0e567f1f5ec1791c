//! Mistakes are gathered, so that one compile shows all of them.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Mistakes {
    first: Option<syn::Error>,
}

impl Mistakes {
    /// Notes a mistake: what is wrong; what to do.
    pub(crate) fn note(&mut self, span: Span, message: impl Display) {
        self.note_error(syn::Error::new(span, message));
    }

    /// Notes a mistake that the parser found.
    pub(crate) fn note_error(&mut self, error: syn::Error) {
        match &mut self.first {
            Some(first) => first.combine(error),
            None => self.first = Some(error),
        }
    }

    /// No mistake so far?
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The mistakes as `compile_error!` calls; `None` when there are none.
    pub(crate) fn into_compile_errors(self) -> Option<TokenStream> {
        self.first.map(|errors| errors.into_compile_error())
    }
}
