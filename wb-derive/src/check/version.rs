//! The version of a record: one field, in the payload and under a name of its own.

use crate::ast::{Field, Input};
use crate::ctxt::Mistakes;
use crate::foreign::SeaStruct;

pub(super) fn check<'a>(input: &'a Input<'a>, mistakes: &mut Mistakes) -> Option<&'a Field<'a>> {
    let mut versions = input.versions();
    let (version, span) = versions.next()?;
    let name = version.name();
    for (_, second) in versions {
        mistakes.note(second, format_args!("`{name}` is the version already; keep one of the two"));
    }
    for (field, said) in input.versions() {
        check_field(input, field, said, mistakes);
    }
    if input.words.collection.is_some() {
        check_document(input, version, span, mistakes);
    }
    Some(version)
}

fn check_field(input: &Input<'_>, field: &Field<'_>, said: proc_macro2::Span, mistakes: &mut Mistakes) {
    if input.sea == SeaStruct::Model && field.sea.primary_key {
        mistakes.note(said, "a primary key never changes, so it is no version; mark another field");
    }
    if input.sea == SeaStruct::Model && field.sea.ignore {
        mistakes
            .note(said, "what SeaORM ignores is not stored, so no two versions can be compared; mark another field");
    }
    if let Some(lost) = field.serde.lost {
        mistakes.note(
            lost,
            format_args!("the version `{}` must survive in the payload; remove serde's `skip`", field.name()),
        );
    }
}

/// In a document the version is found by its name, and compared as a number.
fn check_document(input: &Input<'_>, field: &Field<'_>, said: proc_macro2::Span, mistakes: &mut Mistakes) {
    let name = field.document_name(&input.serde);
    if input.serde.other_type.is_some() {
        mistakes.note(
            said,
            "`version` needs the names in the document, and serde's `into` writes another type; remove one of the two",
        );
    } else if field.serde.flatten.is_some() {
        mistakes.note(
            said,
            "`version` needs a name in the document, and serde's `flatten` takes it away; remove one of the two",
        );
    } else if field.serde.with.is_some() {
        mistakes.note(
            said,
            format_args!(
                "versions are compared as numbers, and serde's `with` says how `{}` is written; remove one of the two",
                field.name()
            ),
        );
    } else if name.is_empty() || name.starts_with('$') || name.contains(['.', '\0']) {
        mistakes.note(
            said,
            format_args!("MongoDB cannot address a field of the name `{}`; give it another", name.escape_debug()),
        );
    }
}
