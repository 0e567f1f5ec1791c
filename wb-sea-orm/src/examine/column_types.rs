//! Which types go together. What is not known fits: a finding must be right.

use sea_orm::DbBackend;
use sea_orm::sea_query::{ArrayType, ColumnType};

use crate::examine::live_table::STRICT;
use crate::mapping::entity::Column;
use crate::values::kept::Change;
use crate::values::limit::{Affinity, Charset, Digits, Limit, Pads};

/// Whether the values of a mapping go into a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Fits,
    /// Some values do not.
    Narrow(String),
    /// None does, or none comes back; what the mapping has.
    Clash(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Smallest and largest value.
    Integer(i128, i128),
    Float,
    Decimal,
    Text,
    Bytes,
    Bool,
    Uuid,
    Timestamp,
    TimestampTz,
    Date,
    Time,
    Json,
    Array,
    Enum,
    /// Some of its values (MySQL).
    Set,
    /// A number of so many bits (MySQL).
    Bits,
    /// MySQL's.
    Year,
    /// MariaDB's INET4 and INET6.
    Address,
    /// A type that the drivers read as none of these.
    Other,
}

const fn signed(bits: u32) -> Family {
    Family::Integer(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
}

const fn unsigned(bits: u32) -> Family {
    Family::Integer(0, (1 << bits) - 1)
}

impl Family {
    const fn words(self) -> &'static str {
        match self {
            Self::Integer(..) => "integers",
            Self::Float => "floating-point numbers",
            Self::Decimal => "decimal numbers",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Bool => "booleans",
            Self::Uuid => "UUIDs",
            Self::Timestamp => "timestamps without time zone",
            Self::TimestampTz => "timestamps with time zone",
            Self::Date => "dates",
            Self::Time => "times",
            Self::Json => "JSON",
            Self::Array => "arrays",
            Self::Enum => "an enumeration",
            // Of columns, never of a mapping.
            Self::Set | Self::Bits | Self::Year | Self::Address | Self::Other => "another type",
        }
    }
}

pub(crate) fn fit(backend: DbBackend, mapped: &Column, kind: &str) -> Fit {
    let found = match backend {
        DbBackend::Postgres => postgres(kind),
        DbBackend::MySql => mysql(kind),
        _ => sqlite(kind),
    };
    let (Some(wanted), Some(found)) = (wanted(mapped), found) else { return Fit::Fits };
    if (wanted, found) == (Family::Array, Family::Array) {
        return match (element(mapped), kind.strip_prefix('_').and_then(postgres)) {
            (Some(wanted), Some(found)) => fit_families(backend, wanted, found, Family::Array.words(), false),
            _ => Fit::Fits,
        };
    }
    let is_strict = backend == DbBackend::Sqlite && kind.starts_with(STRICT);
    fit_families(backend, wanted, found, wanted.words(), is_strict)
}

fn fit_families(backend: DbBackend, wanted: Family, found: Family, words: &'static str, is_strict: bool) -> Fit {
    if let (Family::Integer(low, high), Family::Integer(least, most)) = (wanted, found) {
        return match (low < least, high > most) {
            (false, false) => Fit::Fits,
            (true, false) => Fit::Narrow(format!("below {least}")),
            (false, true) => Fit::Narrow(format!("above {most}")),
            (true, true) => Fit::Narrow(format!("below {least} or above {most}")),
        };
    }
    let fits = wanted == found
        || match backend {
            DbBackend::Postgres => on_postgres(wanted, found),
            DbBackend::MySql => on_mysql(wanted, found),
            _ => on_sqlite(wanted, found, is_strict),
        };
    if fits { Fit::Fits } else { Fit::Clash(words) }
}

fn wanted(mapped: &Column) -> Option<Family> {
    // What a cast makes of it is for whoever wrote the cast to know.
    if mapped.casts.is_some() {
        return None;
    }
    match &mapped.column_type {
        ColumnType::Array(_) => Some(Family::Array),
        ColumnType::Enum { .. } => Some(Family::Enum),
        // Whoever writes the type himself knows what goes into it.
        ColumnType::Custom(_) => None,
        _ => of_type(mapped),
    }
}

/// The elements of an array.
fn element(mapped: &Column) -> Option<Family> {
    match &mapped.column_type {
        ColumnType::Array(items) => match &**items {
            ColumnType::Enum { .. } => Some(Family::Enum),
            ColumnType::Custom(_) => None,
            _ => of_type(mapped),
        },
        _ => None,
    }
}

/// What a mapping has, or has arrays of.
fn of_type(mapped: &Column) -> Option<Family> {
    Some(match &mapped.array_type {
        ArrayType::Bool => Family::Bool,
        ArrayType::TinyInt => signed(8),
        ArrayType::SmallInt => signed(16),
        ArrayType::Int => signed(32),
        ArrayType::BigInt => signed(64),
        ArrayType::TinyUnsigned => unsigned(8),
        ArrayType::SmallUnsigned => unsigned(16),
        ArrayType::Unsigned => unsigned(32),
        ArrayType::BigUnsigned => unsigned(64),
        ArrayType::Float | ArrayType::Double => Family::Float,
        ArrayType::String | ArrayType::Char => Family::Text,
        ArrayType::Enum(_) => Family::Enum,
        ArrayType::Bytes => Family::Bytes,
        ArrayType::Json => Family::Json,
        ArrayType::ChronoDate | ArrayType::TimeDate => Family::Date,
        ArrayType::ChronoTime | ArrayType::TimeTime => Family::Time,
        ArrayType::ChronoDateTime | ArrayType::TimeDateTime => Family::Timestamp,
        ArrayType::ChronoDateTimeUtc
        | ArrayType::ChronoDateTimeLocal
        | ArrayType::ChronoDateTimeWithTimeZone
        | ArrayType::TimeDateTimeWithTimeZone => Family::TimestampTz,
        ArrayType::Uuid => Family::Uuid,
        ArrayType::Decimal => Family::Decimal,
        #[allow(unreachable_patterns, reason = "the application can switch more types of SeaORM on")]
        _ => return None,
    })
}

fn postgres(kind: &str) -> Option<Family> {
    Some(match kind {
        "int2" => signed(16),
        "int4" => signed(32),
        "int8" => signed(64),
        "oid" => unsigned(32),
        "float4" | "float8" => Family::Float,
        "numeric" => Family::Decimal,
        "text" | "varchar" | "bpchar" | "name" | "citext" => Family::Text,
        "bytea" => Family::Bytes,
        "bool" => Family::Bool,
        "uuid" => Family::Uuid,
        "timestamp" => Family::Timestamp,
        "timestamptz" => Family::TimestampTz,
        "date" => Family::Date,
        "time" => Family::Time,
        "json" | "jsonb" => Family::Json,
        "enum" => Family::Enum,
        array if array.starts_with('_') => Family::Array,
        // Those of the database itself; what an extension or an application adds is not known.
        "money" | "bit" | "varbit" | "char" | "interval" | "timetz" | "inet" | "cidr" | "macaddr" | "macaddr8"
        | "xml" | "tsvector" | "tsquery" | "jsonpath" | "xid" | "xid8" | "cid" | "tid" | "pg_lsn" | "pg_snapshot"
        | "txid_snapshot" | "point" | "line" | "lseg" | "box" | "path" | "polygon" | "circle" | "int4range"
        | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange" | "int4multirange" | "int8multirange"
        | "nummultirange" | "tsmultirange" | "tstzmultirange" | "datemultirange" | "regclass" | "regtype"
        | "regproc" | "regprocedure" | "regoper" | "regoperator" | "regrole" | "regnamespace" | "regconfig"
        | "regdictionary" | "regcollation" => Family::Other,
        _ => return None,
    })
}

/// The sink casts numbers when it reads; everything else comes back only as the very type that it has.
fn on_postgres(wanted: Family, found: Family) -> bool {
    matches!(
        (wanted, found),
        (Family::Integer(..) | Family::Float, Family::Integer(..) | Family::Float | Family::Decimal)
    )
}

fn mysql(kind: &str) -> Option<Family> {
    let (name, is_unsigned) = kind.strip_suffix(" unsigned").map_or((kind, false), |name| (name, true));
    let integer = |bits| if is_unsigned { unsigned(bits) } else { signed(bits) };
    Some(match name {
        "tinyint" => integer(8),
        "smallint" => integer(16),
        "mediumint" => integer(24),
        "int" => integer(32),
        "bigint" => integer(64),
        "float" | "double" => Family::Float,
        "decimal" => Family::Decimal,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Family::Text,
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Family::Bytes,
        "datetime" | "timestamp" => Family::Timestamp,
        "date" => Family::Date,
        "time" => Family::Time,
        "json" => Family::Json,
        "enum" => Family::Enum,
        "set" => Family::Set,
        "bit" => Family::Bits,
        "year" => Family::Year,
        "uuid" => Family::Uuid,
        "inet4" | "inet6" => Family::Address,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
        | "geometrycollection" => Family::Other,
        _ => return None,
    })
}

/// Dates are judged only against what is certainly none. The driver reads a number only from a column of its own kind.
fn on_mysql(wanted: Family, found: Family) -> bool {
    use Family::{
        Address, Array, Bits, Bool, Bytes, Enum, Integer, Json, Set, Text, Timestamp, TimestampTz, Uuid, Year,
    };
    matches!(
        (wanted, found),
        // A boolean is a small integer; UUIDs are 16 bytes; MariaDB keeps JSON as text.
        (Bool, Integer(..))
            | (Uuid, Bytes)
            | (Json, Text)
            | (Text, Json)
            | (Text, Enum | Set)
            | (Enum, Text | Set)
            // MariaDB's own types are read as text, too.
            | (Text | Enum, Uuid | Address)
            | (Integer(..) | Bool, Bits)
            | (Integer(..), Year)
            | (TimestampTz, Timestamp)
            // Refused elsewhere, in better words.
            | (Array, _)
    )
}

/// SQLite's rules of affinity, as far as they lose something whatever the value.
fn sqlite(kind: &str) -> Option<Family> {
    // A STRICT table takes no other values than the type's own.
    match kind.strip_prefix(STRICT) {
        Some("any") => return None,
        Some("blob") => return Some(Family::Bytes),
        _ => {}
    }
    match Affinity::of(kind) {
        Affinity::Integer => Some(signed(64)),
        Affinity::Text => Some(Family::Text),
        Affinity::Real => Some(Family::Float),
        Affinity::Numeric | Affinity::Blob => None,
    }
}

fn on_sqlite(wanted: Family, found: Family, is_strict: bool) -> bool {
    use Family::{Bool, Bytes, Decimal, Float, Integer, Text, Uuid};
    if is_strict {
        // Bytes and UUIDs are bound as blobs, booleans as integers, all other types but numbers as text.
        return match found {
            Integer(..) => wanted == Bool,
            Float => wanted == Decimal,
            Bytes => wanted == Uuid,
            Text => !matches!(wanted, Integer(..) | Float | Bool | Bytes | Uuid),
            _ => true,
        };
    }
    match found {
        // `007` would become 7.
        Integer(..) => !matches!(wanted, Text | Bytes | Float | Family::Uuid | Family::Json | Family::Date),
        // An integer would come back as a floating-point number.
        Float => !matches!(wanted, Integer(..) | Bool | Text | Bytes | Family::Uuid | Family::Json | Family::Date),
        // A number would come back as text.
        Text => !matches!(wanted, Integer(..) | Float | Bool),
        _ => true,
    }
}

/// What the column does not keep of the values of a mapping, as it follows "a value" in a sentence; it is refused when it is
/// written.
pub(crate) fn narrow(mapped: &Column, limit: &Limit) -> Option<String> {
    let family = wanted(mapped).filter(|family| *family != Family::Array).or_else(|| element(mapped))?;
    let numbers = matches!(family, Family::Integer(..) | Family::Float);
    Some(match (limit, family) {
        (Limit::Decimal(digits), Family::Decimal) => return fewer(&mapped.column_type, *digits),
        (Limit::Decimal(Digits { scale: Some(scale), whole: Some(whole), .. }), _) if numbers => {
            format!("of more than {whole} digits before the point or {scale} behind it")
        }
        (Limit::Decimal(_), Family::Float) => {
            "that PostgreSQL rounds on its way into a numeric (15 digits of an `f64`, 6 of an `f32`)".to_owned()
        }
        (Limit::Single, Family::Float) if mapped.array_type == ArrayType::Double => {
            "that is no number of four bytes (nearly every fraction is none)".to_owned()
        }
        (Limit::Single, Family::Integer(low, high)) if low < -(1 << 24) || high > 1 << 24 => {
            "of more digits than a floating-point number of four bytes holds".to_owned()
        }
        (Limit::Double, Family::Integer(low, high)) if low < -(1 << 53) || high > 1 << 53 => {
            "of more digits than a floating-point number of eight bytes holds".to_owned()
        }
        (Limit::Integers { .. }, Family::Float) => "with a fraction".to_owned(),
        // Of so many bits; of other integers it is said elsewhere.
        (Limit::Integers { least, most }, Family::Integer(low, high)) if low < *least || high > *most => {
            format!("below {least} or above {most}")
        }
        (Limit::Year, Family::Integer(..)) => "that is neither of 1901 to 2155 nor 0".to_owned(),
        (Limit::Spelled(Change::Chooses(_)), Family::Text) => "that is none of its words".to_owned(),
        (Limit::Spelled(Change::Combines(_)), Family::Text) => "that is not some of its words in their order".to_owned(),
        (Limit::Spelled(_), Family::Text) => "that is not in the one form that the column gives back".to_owned(),
        (Limit::Time { most: Some(_), .. }, Family::Timestamp | Family::TimestampTz) => {
            "outside of the years of a TIMESTAMP (from 1970 to 2038, or to 2106 on MariaDB 11.5 and newer)".to_owned()
        }
        (Limit::Text(text), Family::Text | Family::Enum) => match (text.pads, text.charset) {
            (Pads::Stripped, _) => "that ends in spaces, which a CHAR does not keep,".to_owned(),
            (_, Charset::ThreeBytes) => "with a character of four bytes, which utf8mb3 does not have,".to_owned(),
            (_, Charset::Ascii) => "that is not ASCII".to_owned(),
            _ => return None,
        },
        (Limit::Bytes { most, filled: true }, Family::Bytes) => format!("that has not {most} bytes"),
        (Limit::Bytes { most, .. }, Family::Uuid) if *most != 16 => "(each of them)".to_owned(),
        (Limit::Affinity(affinity), Family::Decimal) if affinity.makes_numbers() => {
            "of more digits than a floating-point number of eight bytes holds (a type with TEXT in its name keeps all)"
                .to_owned()
        }
        (Limit::Affinity(Affinity::Numeric), Family::Text | Family::Json) => {
            "that looks like a number, which the column's type makes one of (SQLite: it has none of TEXT, CHAR, CLOB in its \
             name),"
                .to_owned()
        }
        _ => return None,
    })
}

/// Decimals: what the mapping says, or else what the type has, against what the column has.
fn fewer(said: &ColumnType, Digits { whole, scale, .. }: Digits) -> Option<String> {
    let signed = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let (most, least) = match said {
        ColumnType::Decimal(Some((precision, scale))) => (signed(*precision) - signed(*scale), signed(*scale)),
        // 96 bits, and a point that moves.
        _ => (29, 28),
    };
    let (whole, scale) = (whole.unwrap_or(most), scale.unwrap_or(least));
    (whole < most || scale < least)
        .then(|| format!("of more than {whole} digits before the point or {scale} behind it"))
}

/// Digits of a second that the column keeps, where the mapping's type has more of them.
pub(crate) fn fraction(mapped: &Column, limit: &Limit) -> Option<u32> {
    let family = wanted(mapped).filter(|family| *family != Family::Array).or_else(|| element(mapped));
    let timed = matches!(family, Some(Family::Timestamp | Family::TimestampTz | Family::Time));
    limit.fraction().filter(|_| timed)
}

/// Whether the mapping's values are moments, and not what a clock on some wall shows.
pub(crate) fn is_moment(mapped: &Column) -> bool {
    wanted(mapped) == Some(Family::TimestampTz)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::sea_query::prelude::{DateTime, Decimal, NaiveDateTime, Utc, Uuid};

    fn judged<T: sea_orm::sea_query::ValueType>(backend: DbBackend, kind: &str) -> char {
        match fit(backend, &Column::of::<T>("c"), kind) {
            Fit::Fits => 'f',
            Fit::Narrow(_) => 'n',
            Fit::Clash(_) => 'c',
        }
    }

    #[test]
    fn postgres_types() {
        const PG: DbBackend = DbBackend::Postgres;
        for (kind, i64s, i16s, texts, uuids) in [
            ("int8", 'f', 'f', 'c', 'c'),
            ("int4", 'n', 'f', 'c', 'c'),
            ("numeric", 'f', 'f', 'c', 'c'),
            ("text", 'c', 'c', 'f', 'c'),
            ("varchar", 'c', 'c', 'f', 'c'),
            ("uuid", 'c', 'c', 'c', 'f'),
            ("bool", 'c', 'c', 'c', 'c'),
            ("_int8", 'c', 'c', 'c', 'c'),
            ("money", 'c', 'c', 'c', 'c'),
            ("char", 'c', 'c', 'c', 'c'),
            ("inet", 'c', 'c', 'c', 'c'),
            ("oid", 'n', 'n', 'c', 'c'),
            ("hstore", 'f', 'f', 'f', 'f'),
        ] {
            let found = (
                judged::<i64>(PG, kind),
                judged::<i16>(PG, kind),
                judged::<String>(PG, kind),
                judged::<Uuid>(PG, kind),
            );
            assert_eq!(found, (i64s, i16s, texts, uuids), "{kind}");
        }
        assert_eq!(judged::<NaiveDateTime>(PG, "timestamp"), 'f');
        assert_eq!(judged::<NaiveDateTime>(PG, "timestamptz"), 'c');
        assert_eq!(judged::<DateTime<Utc>>(PG, "timestamp"), 'c');
        assert_eq!(judged::<serde_json::Value>(PG, "json"), 'f');
        assert_eq!(judged::<u64>(PG, "int8"), 'n');
        assert_eq!(judged::<Decimal>(PG, "float8"), 'c');
        assert_eq!(judged::<Decimal>(PG, "money"), 'c');
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn elements_of_arrays() {
        const PG: DbBackend = DbBackend::Postgres;
        for (kind, integers, texts, moments, uuids) in [
            ("_int4", 'f', 'c', 'c', 'c'),
            ("_int8", 'f', 'c', 'c', 'c'),
            ("_int2", 'n', 'c', 'c', 'c'),
            ("_numeric", 'f', 'c', 'c', 'c'),
            ("_text", 'c', 'f', 'c', 'c'),
            ("_bpchar", 'c', 'f', 'c', 'c'),
            ("_uuid", 'c', 'c', 'c', 'f'),
            ("_enum", 'c', 'c', 'c', 'c'),
            ("_timestamptz", 'c', 'c', 'f', 'c'),
            ("_timestamp", 'c', 'c', 'c', 'c'),
            ("_date", 'c', 'c', 'c', 'c'),
            ("_money", 'c', 'c', 'c', 'c'),
            ("_hstore", 'f', 'f', 'f', 'f'),
            ("int4", 'c', 'c', 'c', 'c'),
        ] {
            let found = (
                judged::<Vec<i32>>(PG, kind),
                judged::<Vec<String>>(PG, kind),
                judged::<Vec<DateTime<Utc>>>(PG, kind),
                judged::<Vec<Uuid>>(PG, kind),
            );
            assert_eq!(found, (integers, texts, moments, uuids), "{kind}");
        }
    }

    #[test]
    fn strict_tables_take_no_other_values() {
        const LITE: DbBackend = DbBackend::Sqlite;
        for (kind, integers, texts, bytes, uuids, decimals) in [
            ("strict integer", 'f', 'c', 'c', 'c', 'c'),
            ("strict text", 'c', 'f', 'c', 'c', 'f'),
            ("strict blob", 'c', 'c', 'f', 'f', 'c'),
            ("strict real", 'c', 'c', 'c', 'c', 'f'),
            ("strict any", 'f', 'f', 'f', 'f', 'f'),
            ("blob", 'f', 'f', 'f', 'f', 'f'),
        ] {
            let found = (
                judged::<i64>(LITE, kind),
                judged::<String>(LITE, kind),
                judged::<Vec<u8>>(LITE, kind),
                judged::<Uuid>(LITE, kind),
                judged::<Decimal>(LITE, kind),
            );
            assert_eq!(found, (integers, texts, bytes, uuids, decimals), "{kind}");
        }
    }

    #[test]
    fn mysql_types() {
        const MY: DbBackend = DbBackend::MySql;
        for (kind, i64s, u32s, bools, texts, uuids) in [
            ("bigint", 'f', 'f', 'f', 'c', 'c'),
            ("int", 'n', 'n', 'f', 'c', 'c'),
            ("int unsigned", 'n', 'f', 'f', 'c', 'c'),
            ("bigint unsigned", 'n', 'f', 'f', 'c', 'c'),
            ("tinyint", 'n', 'n', 'f', 'c', 'c'),
            ("varchar", 'c', 'c', 'c', 'f', 'c'),
            ("binary", 'c', 'c', 'c', 'c', 'f'),
            ("uuid", 'c', 'c', 'c', 'f', 'f'),
            ("year", 'f', 'f', 'c', 'c', 'c'),
            ("bit", 'f', 'f', 'f', 'c', 'c'),
            ("set", 'c', 'c', 'c', 'f', 'c'),
            ("inet6", 'c', 'c', 'c', 'f', 'c'),
        ] {
            let found = (
                judged::<i64>(MY, kind),
                judged::<u32>(MY, kind),
                judged::<bool>(MY, kind),
                judged::<String>(MY, kind),
                judged::<Uuid>(MY, kind),
            );
            assert_eq!(found, (i64s, u32s, bools, texts, uuids), "{kind}");
        }
        assert_eq!(judged::<DateTime<Utc>>(MY, "datetime"), 'f');
        assert_eq!(judged::<serde_json::Value>(MY, "longtext"), 'f');
        assert_eq!(judged::<DateTime<Utc>>(MY, "int"), 'c');
    }

    #[test]
    fn sqlite_types() {
        const LITE: DbBackend = DbBackend::Sqlite;
        for (kind, i64s, texts, dates) in [
            ("integer", 'f', 'c', 'f'),
            ("bigint", 'f', 'c', 'f'),
            ("text", 'c', 'f', 'f'),
            ("varchar(20)", 'c', 'f', 'f'),
            ("timestamp_text", 'c', 'f', 'f'),
            ("uuid_text", 'c', 'f', 'f'),
            ("string", 'f', 'f', 'f'),
            ("blob", 'f', 'f', 'f'),
            ("", 'f', 'f', 'f'),
        ] {
            let found = (judged::<i64>(LITE, kind), judged::<String>(LITE, kind), judged::<DateTime<Utc>>(LITE, kind));
            assert_eq!(found, (i64s, texts, dates), "{kind}");
        }
    }

    #[test]
    fn the_limits_are_named() {
        let fit = fit(DbBackend::Postgres, &Column::of::<i64>("c"), "int2");
        assert_eq!(fit, Fit::Narrow("below -32768 or above 32767".into()));
        assert_eq!(super::fit(DbBackend::MySql, &Column::of::<u8>("c"), "tinyint"), Fit::Narrow("above 127".into()));
    }
}
