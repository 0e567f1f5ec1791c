//! How values become arguments of a statement.

use std::sync::Arc;

use sea_orm::Value;

#[cfg(feature = "postgres")]
pub(crate) use arrays::PgColumn;

/// A statement with its arguments.
pub(crate) struct Statement {
    pub(crate) text: Arc<str>,
    pub(crate) args: Args,
}

/// Arguments of a statement.
pub(crate) enum Args {
    /// One per placeholder, bound as SeaORM binds them.
    Values(Vec<Value>),
    /// One array per column.
    #[cfg(feature = "postgres")]
    Arrays(Vec<PgColumn>),
}

#[cfg(feature = "postgres")]
mod arrays {
    use sea_orm::Value;
    use sea_orm::sea_query::prelude::{
        DateTime, Decimal, Json, NaiveDate, NaiveDateTime, NaiveTime, OffsetDateTime, PrimitiveDateTime, Utc, Uuid,
        time,
    };
    use sea_orm::sea_query::{ArrayType, OptionEnum};
    use sea_orm::sqlx::error::BoxDynError;
    use sea_orm::sqlx::postgres::PgArguments;
    use sea_orm::sqlx::{Arguments, postgres};

    use crate::mapping::entity::Column;

    macro_rules! columns {
        ($($variant:ident: $ty:ty),* $(,)?) => {
            /// The values of one column, of the type that SeaORM binds. SeaORM's own arrays cannot hold NULL.
            pub(crate) enum PgColumn {
                $($variant(Vec<Option<$ty>>),)*
            }

            impl PgColumn {
                /// Appends this column as one argument.
                pub(crate) fn bind(self, args: &mut PgArguments) -> Result<(), BoxDynError> {
                    match self {
                        $(Self::$variant(values) => args.add(values),)*
                    }
                }
            }
        };
    }

    columns! {
        Bool: bool,
        Int2: i16,
        Int4: i32,
        Int8: i64,
        Float4: f32,
        Float8: f64,
        Text: String,
        Bytea: Vec<u8>,
        Json: Json,
        Date: NaiveDate,
        Time: NaiveTime,
        Timestamp: NaiveDateTime,
        Timestamptz: DateTime<Utc>,
        TimeDate: time::Date,
        TimeTime: time::Time,
        TimeTimestamp: PrimitiveDateTime,
        TimeTimestamptz: OffsetDateTime,
        Uuid: Uuid,
        Numeric: Decimal,
    }

    impl PgColumn {
        /// Room for `rows` values of `column`; `None` when its values cannot travel as one array.
        pub(crate) fn new(column: &Column, rows: usize) -> Option<Self> {
            Some(match &column.array_type {
                ArrayType::Bool => Self::Bool(Vec::with_capacity(rows)),
                ArrayType::TinyInt | ArrayType::SmallInt | ArrayType::TinyUnsigned => {
                    Self::Int2(Vec::with_capacity(rows))
                }
                ArrayType::Int | ArrayType::SmallUnsigned => Self::Int4(Vec::with_capacity(rows)),
                ArrayType::BigInt | ArrayType::Unsigned | ArrayType::BigUnsigned => {
                    Self::Int8(Vec::with_capacity(rows))
                }
                ArrayType::Float => Self::Float4(Vec::with_capacity(rows)),
                ArrayType::Double => Self::Float8(Vec::with_capacity(rows)),
                ArrayType::String | ArrayType::Char | ArrayType::Enum(_) => Self::Text(Vec::with_capacity(rows)),
                ArrayType::Bytes => Self::Bytea(Vec::with_capacity(rows)),
                ArrayType::Json => Self::Json(Vec::with_capacity(rows)),
                ArrayType::ChronoDate => Self::Date(Vec::with_capacity(rows)),
                ArrayType::ChronoTime => Self::Time(Vec::with_capacity(rows)),
                ArrayType::ChronoDateTime => Self::Timestamp(Vec::with_capacity(rows)),
                ArrayType::ChronoDateTimeUtc
                | ArrayType::ChronoDateTimeLocal
                | ArrayType::ChronoDateTimeWithTimeZone => Self::Timestamptz(Vec::with_capacity(rows)),
                ArrayType::TimeDate => Self::TimeDate(Vec::with_capacity(rows)),
                ArrayType::TimeTime => Self::TimeTime(Vec::with_capacity(rows)),
                ArrayType::TimeDateTime => Self::TimeTimestamp(Vec::with_capacity(rows)),
                ArrayType::TimeDateTimeWithTimeZone => Self::TimeTimestamptz(Vec::with_capacity(rows)),
                ArrayType::Uuid => Self::Uuid(Vec::with_capacity(rows)),
                ArrayType::Decimal => Self::Numeric(Vec::with_capacity(rows)),
                #[allow(unreachable_patterns, reason = "the application can switch more types of SeaORM on")]
                _ => return None,
            })
        }

        /// Appends a value; `false` when it is of another type than the mapping says.
        pub(crate) fn push(&mut self, value: Value) -> bool {
            match (self, value) {
                (Self::Bool(c), Value::Bool(v)) => c.push(v),
                (Self::Int2(c), Value::TinyInt(v)) => c.push(v.map(i16::from)),
                (Self::Int2(c), Value::TinyUnsigned(v)) => c.push(v.map(i16::from)),
                (Self::Int2(c), Value::SmallInt(v)) => c.push(v),
                (Self::Int4(c), Value::SmallUnsigned(v)) => c.push(v.map(i32::from)),
                (Self::Int4(c), Value::Int(v)) => c.push(v),
                (Self::Int8(c), Value::Unsigned(v)) => c.push(v.map(i64::from)),
                (Self::Int8(c), Value::BigInt(v)) => c.push(v),
                (Self::Int8(c), Value::BigUnsigned(None)) => c.push(None),
                (Self::Int8(c), Value::BigUnsigned(Some(v))) => match i64::try_from(v) {
                    Ok(v) => c.push(Some(v)),
                    Err(_) => return false,
                },
                (Self::Float4(c), Value::Float(v)) => c.push(v),
                (Self::Float8(c), Value::Double(v)) => c.push(v),
                (Self::Text(c), Value::String(v)) => c.push(v),
                (Self::Text(c), Value::Char(v)) => c.push(v.map(String::from)),
                (Self::Text(c), Value::Enum(OptionEnum::Some(v))) => c.push(Some(v.value.into_owned())),
                (Self::Text(c), Value::Enum(OptionEnum::None(_))) => c.push(None),
                (Self::Bytea(c), Value::Bytes(v)) => c.push(v),
                (Self::Json(c), Value::Json(v)) => c.push(v.map(|v| *v)),
                (Self::Date(c), Value::ChronoDate(v)) => c.push(v),
                (Self::Time(c), Value::ChronoTime(v)) => c.push(v),
                (Self::Timestamp(c), Value::ChronoDateTime(v)) => c.push(v),
                (Self::Timestamptz(c), Value::ChronoDateTimeUtc(v)) => c.push(v),
                (Self::Timestamptz(c), Value::ChronoDateTimeLocal(v)) => c.push(v.map(|v| v.with_timezone(&Utc))),
                (Self::Timestamptz(c), Value::ChronoDateTimeWithTimeZone(v)) => {
                    c.push(v.map(|v| v.with_timezone(&Utc)));
                }
                (Self::TimeDate(c), Value::TimeDate(v)) => c.push(v),
                (Self::TimeTime(c), Value::TimeTime(v)) => c.push(v),
                (Self::TimeTimestamp(c), Value::TimeDateTime(v)) => c.push(v),
                (Self::TimeTimestamptz(c), Value::TimeDateTimeWithTimeZone(v)) => c.push(v),
                (Self::Uuid(c), Value::Uuid(v)) => c.push(v),
                (Self::Numeric(c), Value::Decimal(v)) => c.push(v),
                _ => return false,
            }
            true
        }
    }

    impl super::Args {
        /// The driver's form of these arguments.
        pub(crate) fn into_postgres(self) -> Result<PgArguments, BoxDynError> {
            match self {
                Self::Values(values) => {
                    use sea_orm::sqlx::IntoArguments;
                    let values = sea_query_sqlx::SqlxValues(sea_orm::sea_query::Values(values));
                    Ok(IntoArguments::<postgres::Postgres>::into_arguments(values))
                }
                Self::Arrays(columns) => {
                    let mut args = PgArguments::default();
                    for column in columns {
                        column.bind(&mut args)?;
                    }
                    Ok(args)
                }
            }
        }
    }
}
