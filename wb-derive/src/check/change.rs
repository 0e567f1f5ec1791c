//! Counters and the patch: names, and what they cannot be said of.

use std::collections::HashSet;

use crate::ast::{Field, Input};
use crate::change::{counters, patch_name, patched};
use crate::ctxt::Mistakes;
use crate::foreign::SeaStruct;

pub(super) fn check(input: &Input<'_>, mistakes: &mut Mistakes) {
    for field in &input.fields {
        contradictions(input, field, mistakes);
        if let (Some(said), Some(_)) = (&field.words.counter, field.serde.lost) {
            mistakes.note(
                said.span,
                format_args!("serde loses `{}` on the way through the buffer, so it cannot be counted", field.name()),
            );
        }
    }
    let mut seen = HashSet::new();
    for counted in counters(input) {
        let name = &counted.name;
        if counted.ident().is_none() {
            mistakes.note(
                counted.span,
                format_args!(
                    "`{}` is no name of a constant; write one, as in `counter = \"VIEWS\"`",
                    name.escape_debug()
                ),
            );
        } else if !seen.insert(name.clone()) {
            mistakes.note(
                counted.span,
                format_args!("two counters have the name `{name}`; give one another with `counter = \"...\"`"),
            );
        }
    }
    let Some(said) = &input.words.patch else { return };
    if patch_name(input).is_none() {
        mistakes.note(
            said.span,
            format_args!(
                "`{}` is no name of a type; write one, as in `patch = \"{}Changes\"`",
                said.value.escape_debug(),
                input.ident
            ),
        );
    } else if input.words.append.is_none() && patched(input).is_empty() {
        mistakes.note(said.span, format_args!("no field of `{}` can be patched; remove `patch`", input.ident));
    }
}

/// Words of a field whose value never changes, or is not kept.
fn contradictions(input: &Input<'_>, field: &Field<'_>, mistakes: &mut Mistakes) {
    let words = &field.words;
    if let Some(said) = &words.counter {
        let primary = input.sea == SeaStruct::Model && field.sea.primary_key;
        let others = [
            ("key", words.key.is_some() || primary, "a key never changes"),
            ("version", words.version.is_some(), "a version is raised by itself"),
            ("insert_only", words.insert_only.is_some(), "what is counted is updated"),
            ("skip", words.skip.is_some(), "what is skipped is not stored at all"),
        ];
        for (other, _, why) in others.into_iter().filter(|(_, said, _)| *said) {
            mistakes.note(said.span, format_args!("`counter` contradicts `{other}`: {why}; remove one of the two"));
        }
    }
    if let (Some(_), Some(said)) = (&words.skip, &words.partition_by) {
        mistakes.note(
            said.span,
            "`partition_by` contradicts `skip`: what is skipped is not stored at all; remove one of the two",
        );
    }
    if let (Some(_), Some(said)) = (&input.words.append, &words.insert_only) {
        mistakes.note(
            said.span,
            "`insert_only` contradicts `append`: what is appended is never updated; remove `insert_only`",
        );
    }
}
