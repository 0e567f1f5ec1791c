//! What an operator should know of the columns of a key: that keys which differ are one row to the table.

use wb_core::Finding;

use crate::mapping::entity::{Column, Table};
use crate::statement::dialect::keys;
use crate::values::kept::Change;

/// Of a table whose columns were looked at.
pub(crate) fn examine(subject: &str, place: &str, table: &Table) -> Vec<Finding> {
    keys(table).flat_map(|key| collation(subject, place, key).into_iter().chain(changes(subject, place, key))).collect()
}

fn collation(subject: &str, place: &str, key: &Column) -> Option<Finding> {
    // Of the keys that one of these does not tell apart nobody has two: they differ in spaces at their end.
    let compares = key.kept.compares.as_ref().filter(|name| !name.ends_with("_bin`"))?;
    let text = format!(
        "key column `{}` of table `{place}` does not tell all texts apart ({compares}): of two keys that it takes for equal the \
         second is refused and becomes a dead letter; a collation that compares bytes keeps both",
        key.name
    );
    Some(Finding::note("key-collation", subject, text))
}

fn changes<'a>(subject: &'a str, place: &'a str, key: &'a Column) -> impl Iterator<Item = Finding> + 'a {
    key.kept.changes.iter().filter_map(move |change| {
        let refused = match change {
            Change::Trims => "does not keep spaces at the end: a key that ends in one is refused; a column of variable length does",
            Change::Fills(_) => {
                "fills keys up with zeros: a key of fewer bytes is refused; a column of variable length keeps it"
            }
            Change::Numbers => {
                "would store what looks like a number as one, where `007` is 7: such keys are refused; a column of type TEXT keeps \
                 them"
            }
            Change::Rounds(_) => "rounds large integers: such keys are refused; a column of integers keeps them",
            Change::Uuids | Change::Addresses => {
                "has one form for all spellings of a value: a key in another one is refused; make keys in that form"
            }
            Change::Chooses(_) | Change::Combines(_) | Change::CutsSpaces(_) | Change::CutsBytes(_) => return None,
        };
        Some(Finding::note("key-type", subject, format!("key column `{}` of table `{place}` {refused}", key.name)))
    })
}
