//! Reading a column of a row.

use sea_orm::sea_query::prelude::{DateTime, Decimal, OffsetDateTime, PrimitiveDateTime, Utc};
use sea_orm::sea_query::{ArrayType, ValueType};
use sea_orm::{DbErr, QueryResult, TryGetable, Value};

/// The value of a column, as SeaORM reads it, and what SeaORM writes but does not read: unsigned integers (PostgreSQL and SQLite keep
/// them as the next larger signed one), integers of MySQL whose column has a sign where the mapping has none, or the other way
/// round, and decimals that SQLite keeps as text.
///
/// # Errors
/// When the column is missing or of another type, or a number is outside of the type's range.
pub fn read<T: ValueType + TryGetable>(row: &QueryResult, name: &str) -> Result<T, DbErr> {
    if is_sqlite(row) && matches!(T::array_type(), ArrayType::Decimal | ArrayType::Float | ArrayType::Double) {
        return sqlite_number(row, name);
    }
    if T::array_type() == ArrayType::Decimal
        && let Ok(value) = row.try_get_by::<Option<Decimal>, _>(name)
    {
        let value = value.map(|value| of_scale(value, name)).transpose()?;
        return T::try_from(Value::Decimal(value)).map_err(|_| unread(name));
    }
    if is_mysql(row) {
        let another = || integer(row, name).or_else(|| wall_clock(row, name));
        return row.try_get_by(name).or_else(|error| another().unwrap_or(Err(error)));
    }
    let unsigned = matches!(
        T::array_type(),
        ArrayType::TinyUnsigned | ArrayType::SmallUnsigned | ArrayType::Unsigned | ArrayType::BigUnsigned
    );
    if !unsigned {
        return row.try_get_by(name);
    }
    // An array of unsigned integers has the type of its elements too.
    integer(row, name).unwrap_or_else(|| row.try_get_by(name)).or_else(|_| row.try_get_by(name))
}

/// The value by way of an integer of whatever width; `None` when the type is no integer.
fn integer<T: ValueType>(row: &QueryResult, name: &str) -> Option<Result<T, DbErr>> {
    fn made<N: TryFrom<i128>>(number: Option<i128>, name: &str) -> Result<Option<N>, DbErr> {
        let outside = |n: i128| DbErr::Type(format!("column `{name}` holds {n}, which its type cannot"));
        number.map(|n| N::try_from(n).map_err(|_| outside(n))).transpose()
    }
    let make: fn(Option<i128>, &str) -> Result<Value, DbErr> = match T::array_type() {
        ArrayType::TinyInt => |n, name| made(n, name).map(Value::TinyInt),
        ArrayType::SmallInt => |n, name| made(n, name).map(Value::SmallInt),
        ArrayType::Int => |n, name| made(n, name).map(Value::Int),
        ArrayType::BigInt => |n, name| made(n, name).map(Value::BigInt),
        ArrayType::TinyUnsigned => |n, name| made(n, name).map(Value::TinyUnsigned),
        ArrayType::SmallUnsigned => |n, name| made(n, name).map(Value::SmallUnsigned),
        ArrayType::Unsigned => |n, name| made(n, name).map(Value::Unsigned),
        ArrayType::BigUnsigned => |n, name| made(n, name).map(Value::BigUnsigned),
        _ => return None,
    };
    let number = whole(row, name).and_then(|number| make(number, name));
    Some(number.and_then(|value| T::try_from(value).map_err(|_| unread(name))))
}

/// A date and time out of a `TIMESTAMP`, which the driver takes for a moment; `None` when the type is no date and time.
fn wall_clock<T: ValueType>(row: &QueryResult, name: &str) -> Option<Result<T, DbErr>> {
    let value = match T::array_type() {
        ArrayType::ChronoDateTime => {
            let moment = row.try_get_by::<Option<DateTime<Utc>>, _>(name);
            moment.map(|moment| Value::ChronoDateTime(moment.map(|moment| moment.naive_utc())))
        }
        ArrayType::TimeDateTime => {
            let moment = row.try_get_by::<Option<OffsetDateTime>, _>(name);
            moment.map(|moment| Value::TimeDateTime(moment.map(|utc| PrimitiveDateTime::new(utc.date(), utc.time()))))
        }
        _ => return None,
    };
    Some(value.and_then(|value| T::try_from(value).map_err(|_| unread(name))))
}

/// NULL where there is no `Option`, or a value that a type of the program's own does not take.
fn unread(name: &str) -> DbErr {
    DbErr::Type(format!("the value of column `{name}` is none of its type"))
}

/// PostgreSQL reads a column only as the very type that it has, MySQL only with its sign.
fn whole(row: &QueryResult, name: &str) -> Result<Option<i128>, DbErr> {
    let signed = |n: Option<i64>| n.map(i128::from);
    if is_mysql(row) {
        let unsigned = |_| row.try_get_by::<Option<u64>, _>(name).map(|n| n.map(i128::from));
        return row.try_get_by(name).map(signed).or_else(unsigned);
    }
    let narrower = |_| row.try_get_by::<Option<i32>, _>(name).map(|n| n.map(i128::from));
    let narrowest = |_| row.try_get_by::<Option<i16>, _>(name).map(|n| n.map(i128::from));
    row.try_get_by(name).map(signed).or_else(narrower).or_else(narrowest)
}

/// The driver takes over whatever scale a column has; more than the type's own would make whoever writes the number as text panic.
fn of_scale(value: Decimal, name: &str) -> Result<Decimal, DbErr> {
    let value = if value.scale() > Decimal::MAX_SCALE { value.normalize() } else { value };
    if value.scale() > Decimal::MAX_SCALE {
        return Err(DbErr::Type(format!(
            "column `{name}` holds a number of more than {} digits behind the point",
            Decimal::MAX_SCALE
        )));
    }
    Ok(value)
}

/// A number of SQLite, which has the type of its value and not that of its column: a whole one may be an integer.
fn sqlite_number<T: ValueType + TryGetable>(row: &QueryResult, name: &str) -> Result<T, DbErr> {
    let value = match T::array_type() {
        ArrayType::Decimal => Value::Decimal(decimal(row, name)?),
        kind => {
            let error = match row.try_get_by(name) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Ok(number) = row.try_get_by::<Option<i64>, _>(name) else { return Err(error) };
            match kind {
                ArrayType::Float => Value::Float(number.map(|number| number as f32)),
                _ => Value::Double(number.map(|number| number as f64)),
            }
        }
    };
    T::try_from(value).map_err(|_| unread(name))
}

/// A decimal of SQLite: text, an integer, or a floating-point number, which SeaORM takes for all of them.
fn decimal(row: &QueryResult, name: &str) -> Result<Option<Decimal>, DbErr> {
    let outside = |text: &str| DbErr::Type(format!("column `{name}` holds `{text}`, which is no decimal number"));
    if let Ok(text) = row.try_get_by::<Option<String>, _>(name) {
        return text.map(|text| text.parse().map_err(|_| outside(&text))).transpose();
    }
    if let Ok(number) = row.try_get_by::<Option<i64>, _>(name) {
        return Ok(number.map(Decimal::from));
    }
    let double: Option<f64> = row.try_get_by(name)?;
    double
        .map(|double| <Decimal as TryFrom<f64>>::try_from(double).map_err(|_| outside(&double.to_string())))
        .transpose()
}

#[allow(unused_variables, reason = "without the driver there are none")]
fn is_mysql(row: &QueryResult) -> bool {
    #[cfg(feature = "mysql")]
    let is = row.try_as_mysql_row().is_some();
    #[cfg(not(feature = "mysql"))]
    let is = false;
    is
}

#[allow(unused_variables, reason = "without the driver there are none")]
fn is_sqlite(row: &QueryResult) -> bool {
    #[cfg(feature = "sqlite")]
    let is = row.try_as_sqlite_row().is_some();
    #[cfg(not(feature = "sqlite"))]
    let is = false;
    is
}
