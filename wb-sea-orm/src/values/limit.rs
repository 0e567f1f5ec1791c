//! What a column keeps of a value, as the live schema says: so that what would be cut or rounded is known before it is sent.

use sea_orm::DbBackend;

use crate::values::kept::{Change, members};

/// What a column keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Every value, as far as is known.
    #[default]
    Unknown,
    Integers {
        least: i128,
        most: i128,
    },
    /// Four bytes of floating point.
    Single,
    Double,
    Decimal(Digits),
    Text(Text),
    Bytes {
        most: u64,
        /// Shorter values come back filled up.
        filled: bool,
    },
    Time {
        /// Digits of the fraction of a second.
        digits: u32,
        /// Seconds since 1970 that the column has no moments behind (MySQL's `TIMESTAMP`).
        most: Option<i64>,
    },
    Affinity(Affinity),
    /// A year as MySQL has them: other numbers are taken for years of two digits.
    Year,
    /// Text that would be changed into a value that the column's type has.
    Spelled(Change),
}

/// Digits of a number; `None` where it has as many as it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digits {
    /// Before the point; negative where the first ones behind it are zero, too.
    pub(crate) whole: Option<i32>,
    /// Behind the point; negative where the last ones before it are zero, too.
    pub(crate) scale: Option<i32>,
    /// In a floating-point number of four bytes.
    pub(crate) single: bool,
}

/// A column of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) characters: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) pads: Pads,
    pub(crate) charset: Charset,
}

/// What becomes of spaces at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pads {
    #[default]
    No,
    /// Values come back without their last spaces (`CHAR(n)`; on PostgreSQL as text).
    Stripped,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Charset {
    #[default]
    All,
    /// Up to three bytes a character (MySQL's utf8mb3).
    ThreeBytes,
    Ascii,
}

/// What SQLite makes of a value that is bound as text or as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Affinity {
    Text,
    /// Text that looks like a number becomes one.
    Numeric,
    Integer,
    Real,
    /// Stored as it is bound.
    Blob,
}

impl Affinity {
    /// The rules of "Datatypes In SQLite", in their order.
    pub(crate) fn of(kind: &str) -> Self {
        let has = |word: &str| kind.contains(word);
        if has("int") {
            Self::Integer
        } else if has("char") || has("clob") || has("text") {
            Self::Text
        } else if has("blob") || kind.is_empty() {
            Self::Blob
        } else if has("real") || has("floa") || has("doub") {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// Text that looks like a number becomes one.
    pub(crate) const fn makes_numbers(self) -> bool {
        matches!(self, Self::Numeric | Self::Integer | Self::Real)
    }
}

const fn signed(bits: u32) -> Limit {
    Limit::Integers { least: -(1 << (bits - 1)), most: (1 << (bits - 1)) - 1 }
}

/// Digits behind the second that PostgreSQL and MySQL have at most.
pub(crate) const MICROSECONDS: u32 = 6;

/// A decimal number of `precision` digits, `scale` of them behind the point.
const fn digits(precision: i32, scale: i32) -> Limit {
    Limit::Decimal(Digits { whole: Some(precision - scale), scale: Some(scale), single: false })
}

impl Limit {
    /// What is known of a column that was not looked at yet.
    pub(crate) const fn unseen(backend: DbBackend) -> &'static Self {
        match backend {
            DbBackend::Sqlite => &Self::Unknown,
            _ => &Self::Time { digits: MICROSECONDS, most: None },
        }
    }

    /// A column of PostgreSQL: the type's name in the catalogue and its modifier, -1 where there is none.
    pub(crate) fn on_postgres(kind: &str, modifier: i32) -> Self {
        const OID: Limit = Limit::Integers { least: 0, most: u32::MAX as i128 };
        // The length of a header stands before what was said.
        let said = (modifier >= 4).then(|| modifier - 4);
        let length = said.and_then(|length| u64::try_from(length).ok());
        // An array keeps what its elements do.
        match kind.strip_prefix('_').unwrap_or(kind) {
            "int2" => signed(16),
            "int4" => signed(32),
            "int8" => signed(64),
            "oid" => OID,
            "float4" => Self::Single,
            "float8" => Self::Double,
            "numeric" => match said {
                // Eleven bits with a sign.
                Some(said) => digits((said >> 16) & 0xffff, ((said & 0x7ff) ^ 1024) - 1024),
                None => Self::Decimal(Digits::default()),
            },
            "varchar" => Self::Text(Text { characters: length, ..Text::default() }),
            "bpchar" => Self::Text(Text { characters: length, pads: Pads::Stripped, ..Text::default() }),
            // NAMEDATALEN, with its zero.
            "name" => Self::Text(Text { bytes: Some(63), ..Text::default() }),
            "time" | "timetz" | "timestamp" | "timestamptz" => Self::Time {
                digits: u32::try_from(modifier).map_or(MICROSECONDS, |said| said.min(MICROSECONDS)),
                most: None,
            },
            _ => Self::Unknown,
        }
    }

    /// A column of MySQL: its whole type as it is declared, its character set, and the last second of a `TIMESTAMP`.
    pub(crate) fn on_mysql(declared: &str, charset: Option<&str>, last_second: i64) -> Self {
        let column_type = &*declared.to_lowercase();
        let kind = column_type.split(['(', ' ']).next().unwrap_or_default();
        let inside =
            column_type.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(said, _)| said);
        let said: Vec<u64> = inside.split(',').map_while(|number| number.trim().parse().ok()).collect();
        let (first, second) = (said.first().copied(), said.get(1).copied());
        let small = |number: Option<u64>| number.and_then(|number| i32::try_from(number).ok());
        let integers = |bits: u32| match column_type.contains("unsigned") {
            true => Self::Integers { least: 0, most: (1 << bits) - 1 },
            false => signed(bits),
        };
        let charset = match charset {
            Some("utf8" | "utf8mb3") => Charset::ThreeBytes,
            Some("ascii") => Charset::Ascii,
            _ => Charset::All,
        };
        let text = |characters, bytes, pads| Self::Text(Text { characters, bytes, pads, charset });
        let time = |most| Self::Time { digits: first.map_or(0, |said| u32::try_from(said).unwrap_or(0)), most };
        match kind {
            // The length in brackets is for people, but of one bit it is a boolean, and holds as much.
            "tinyint" => integers(8),
            "smallint" => integers(16),
            "mediumint" => integers(24),
            "int" => integers(32),
            "bigint" => integers(64),
            "float" | "double" if second.is_some() => {
                let (precision, scale) = (small(first).unwrap_or(0), small(second).unwrap_or(0));
                Self::Decimal(Digits { whole: Some(precision - scale), scale: Some(scale), single: kind == "float" })
            }
            "float" => Self::Single,
            "double" => Self::Double,
            "decimal" => digits(small(first).unwrap_or(10), small(second).unwrap_or(0)),
            "char" => text(first.or(Some(1)), None, Pads::Stripped),
            "varchar" => text(first, None, Pads::No),
            "tinytext" => text(None, Some(255), Pads::No),
            "text" => text(None, Some(65_535), Pads::No),
            "mediumtext" => text(None, Some(16_777_215), Pads::No),
            "longtext" => text(None, Some(u64::from(u32::MAX)), Pads::No),
            "binary" => Self::Bytes { most: first.unwrap_or(1), filled: true },
            "varbinary" => Self::Bytes { most: first.unwrap_or(1), filled: false },
            "tinyblob" => Self::Bytes { most: 255, filled: false },
            "blob" => Self::Bytes { most: 65_535, filled: false },
            "mediumblob" => Self::Bytes { most: 16_777_215, filled: false },
            "longblob" => Self::Bytes { most: u64::from(u32::MAX), filled: false },
            "timestamp" => time(Some(last_second)),
            "datetime" | "time" => time(None),
            "bit" => Self::Integers { least: 0, most: (1 << first.unwrap_or(1).min(64)) - 1 },
            "year" => Self::Year,
            // Its values are found without their case, and by their numbers.
            "enum" => Self::Spelled(Change::Chooses(members(declared))),
            "set" => Self::Spelled(Change::Combines(members(declared))),
            "uuid" => Self::Spelled(Change::Uuids),
            "inet4" | "inet6" => Self::Spelled(Change::Addresses),
            _ => Self::Unknown,
        }
    }

    /// A column of SQLite: its declared type, in lower case, and whether the table is STRICT.
    pub(crate) fn on_sqlite(kind: &str, is_strict: bool) -> Self {
        // There ANY means it.
        if is_strict && kind == "any" { Self::Unknown } else { Self::Affinity(Affinity::of(kind)) }
    }

    /// Digits of a second that the column keeps; `None` where it keeps all.
    pub(crate) const fn fraction(&self) -> Option<u32> {
        match self {
            Self::Time { digits, .. } => Some(*digits),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits_of(limit: &Limit) -> Option<(Option<i32>, Option<i32>)> {
        match limit {
            Limit::Decimal(Digits { whole, scale, .. }) => Some((*whole, *scale)),
            _ => None,
        }
    }

    #[test]
    fn postgres_says_scale_and_length_in_the_modifier() {
        let numeric = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        for (precision, scale) in [(10, 1), (20, 4), (1_000, 0), (3, 5), (2, -3)] {
            let limit = Limit::on_postgres("numeric", numeric(precision, scale));
            assert_eq!(digits_of(&limit), Some((Some(precision - scale), Some(scale))));
        }
        assert_eq!(digits_of(&Limit::on_postgres("numeric", -1)), Some((None, None)));
        assert_eq!(Limit::on_postgres("timestamptz", 0).fraction(), Some(0));
        assert_eq!(Limit::on_postgres("timestamp", -1).fraction(), Some(6));
        assert!(matches!(Limit::on_postgres("varchar", 24), Limit::Text(Text { characters: Some(20), .. })));
    }

    #[test]
    fn mysql_says_them_in_brackets() {
        let limit = |column_type| Limit::on_mysql(column_type, Some("utf8mb3"), 7);
        assert_eq!(digits_of(&limit("decimal(10,0)")), Some((Some(10), Some(0))));
        assert_eq!(digits_of(&limit("double(10,2)")), Some((Some(8), Some(2))));
        assert_eq!(limit("datetime"), Limit::Time { digits: 0, most: None });
        assert_eq!(limit("timestamp(3)"), Limit::Time { digits: 3, most: Some(7) });
        assert_eq!(limit("int(10) unsigned"), Limit::Integers { least: 0, most: u32::MAX.into() });
        assert_eq!(limit("binary(16)"), Limit::Bytes { most: 16, filled: true });
        let Limit::Text(text) = limit("char(4)") else { unreachable!() };
        assert_eq!((text.characters, text.pads, text.charset), (Some(4), Pads::Stripped, Charset::ThreeBytes));
    }

    #[test]
    fn sqlite_takes_the_type_from_its_name() {
        for (kind, affinity) in [
            ("", Affinity::Blob),
            ("blob", Affinity::Blob),
            ("bigint", Affinity::Integer),
            ("floating point", Affinity::Integer),
            ("varchar(20)", Affinity::Text),
            ("timestamp_text", Affinity::Text),
            ("real_decimal", Affinity::Real),
            ("string", Affinity::Numeric),
            ("decimal(10, 2)", Affinity::Numeric),
            ("datetime", Affinity::Numeric),
        ] {
            assert_eq!(Affinity::of(kind), affinity, "{kind}");
        }
    }
}
