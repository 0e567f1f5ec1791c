//! Reading a column of a row.

use sea_orm::sea_query::{ArrayType, ValueType};
use sea_orm::{DbErr, QueryResult, TryGetable, Value};

/// The value of a column, as SeaORM reads it, and unsigned integers where SeaORM writes them but does not read them:
/// PostgreSQL and SQLite keep them as the next larger signed integer.
///
/// # Errors
/// When the column is missing or of another type, or a number is negative.
pub fn read<T: ValueType + TryGetable>(row: &QueryResult, name: &str) -> Result<T, DbErr> {
    if !is_signed_here(row) {
        return row.try_get_by(name);
    }
    let outside = |n: i64| DbErr::Type(format!("column `{name}` holds {n}, which its type cannot"));
    let number = || signed(row, name);
    let value = match T::array_type() {
        ArrayType::TinyUnsigned => {
            Value::TinyUnsigned(number()?.map(|n| n.try_into().map_err(|_| outside(n))).transpose()?)
        }
        ArrayType::SmallUnsigned => {
            Value::SmallUnsigned(number()?.map(|n| n.try_into().map_err(|_| outside(n))).transpose()?)
        }
        ArrayType::Unsigned => Value::Unsigned(number()?.map(|n| n.try_into().map_err(|_| outside(n))).transpose()?),
        ArrayType::BigUnsigned => {
            Value::BigUnsigned(number()?.map(|n| n.try_into().map_err(|_| outside(n))).transpose()?)
        }
        _ => return row.try_get_by(name),
    };
    // An array of unsigned integers has the type of its elements too.
    T::try_from(value).or_else(|_| row.try_get_by(name))
}

#[allow(unused_variables, reason = "without these drivers nothing is signed")]
fn is_signed_here(row: &QueryResult) -> bool {
    #[cfg(feature = "postgres")]
    if row.try_as_pg_row().is_some() {
        return true;
    }
    #[cfg(feature = "sqlite")]
    if row.try_as_sqlite_row().is_some() {
        return true;
    }
    false
}

/// PostgreSQL reads a column only as the very type that it has.
fn signed(row: &QueryResult, name: &str) -> Result<Option<i64>, DbErr> {
    let narrower = |_| row.try_get_by::<Option<i32>, _>(name).map(|n| n.map(i64::from));
    let narrowest = |_| row.try_get_by::<Option<i16>, _>(name).map(|n| n.map(i64::from));
    row.try_get_by::<Option<i64>, _>(name).or_else(narrower).or_else(narrowest)
}
