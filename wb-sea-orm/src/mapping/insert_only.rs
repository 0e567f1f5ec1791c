//! Columns that are set in a new row only.

use wb_core::SameInserted;

use crate::mapping::entity::SqlEntity;

/// How to tell whether two states have the same values in such columns; `None`: there are none.
pub(crate) fn fields<E: SqlEntity>() -> Option<SameInserted<E>> {
    E::table().columns.iter().any(|column| column.insert_only).then_some(same::<E>)
}

fn same<E: SqlEntity>(one: &E, other: &E) -> bool {
    let (Ok(one), Ok(other)) = (one.bind(), other.bind()) else { return false };
    let columns = E::table().columns;
    columns.iter().zip(one.iter().zip(&other)).all(|(column, (one, other))| !column.insert_only || one == other)
}
