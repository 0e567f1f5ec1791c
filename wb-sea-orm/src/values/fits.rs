//! Whether a column keeps a value as it is.

use std::borrow::Cow;

use sea_orm::sea_query::OptionEnum;
use sea_orm::sea_query::prelude::Decimal;
use sea_orm::{DbBackend, Value};

use crate::values::limit::{Affinity, Charset, Digits, Limit, Pads, Text};
use crate::values::moment::Moment;

/// What is wrong with a value, as it follows its column's name in a sentence.
pub(crate) type Reason = Cow<'static, str>;

/// Looks at a value and at what its column keeps.
pub(crate) fn fits(backend: DbBackend, limit: &Limit, value: &Value) -> Result<(), Reason> {
    #[cfg(feature = "postgres")]
    if let Value::Array(_, items) = value {
        return items.iter().flat_map(|items| items.iter()).try_for_each(|item| fits(backend, limit, item));
    }
    if let Some(moment) = Moment::of(value) {
        return fits_moment(backend, limit, &moment);
    }
    match limit {
        Limit::Unknown | Limit::Time { .. } => Ok(()),
        Limit::Text(text) => fits_text(text, value),
        Limit::Bytes { most, filled } => fits_bytes(*most, *filled, value),
        Limit::Affinity(affinity) => fits_affinity(*affinity, value),
        Limit::Spelled(change) => match value {
            Value::String(Some(text)) => change.spares_text(text).map_err(Reason::from),
            Value::Enum(OptionEnum::Some(variant)) => change.spares_text(&variant.value).map_err(Reason::from),
            Value::Char(Some(char)) => change.spares_text(char.encode_utf8(&mut [0; 4])).map_err(Reason::from),
            _ => Ok(()),
        },
        Limit::Year | Limit::Integers { .. } | Limit::Single | Limit::Double | Limit::Decimal(_) => {
            match Number::of(value) {
                Some(number) => number.fits(backend, limit),
                None => without_digits(limit, value),
            }
        }
    }
}

/// NaN and the infinities.
fn without_digits(limit: &Limit, value: &Value) -> Result<(), Reason> {
    let number = match value {
        Value::Float(Some(number)) => f64::from(*number),
        Value::Double(Some(number)) => *number,
        _ => return Ok(()),
    };
    match limit {
        Limit::Integers { .. } | Limit::Year => Err("is no finite number, and its column takes integers".into()),
        Limit::Decimal(Digits { whole: Some(_), .. }) if number.is_infinite() => {
            Err("is infinite, and its column takes numbers of so many digits".into())
        }
        _ => Ok(()),
    }
}

fn fits_moment(backend: DbBackend, limit: &Limit, moment: &Moment) -> Result<(), Reason> {
    if moment.is_leap() {
        return Err("is in a leap second, which the database does not have".into());
    }
    if moment.odd_offset {
        return Err("has an offset from UTC with seconds, which its text does not have: convert it to UTC".into());
    }
    if let Some(digits) = limit.fraction()
        && moment.is_finer(digits)
    {
        return Err(format!("has a finer fraction of a second than the {digits} digits that its column keeps").into());
    }
    if let (Some(year), DbBackend::Sqlite) = (moment.local_year.or(moment.date.map(|(year, ..)| year)), backend)
        && !(0..=9_999).contains(&year)
    {
        return Err("is a date outside of the years 0 to 9999, which have four digits in SQLite's texts".into());
    }
    match (backend, moment.date) {
        (DbBackend::MySql, Some((year, ..))) if !(0..=9_999).contains(&year) => {
            return Err("is a date outside of the years 0 to 9999 of MySQL".into());
        }
        (DbBackend::MySql, Some((0, month, day))) if (month, day) == (2, 29) || (month, day) == (0, 0) => {
            return Err("is the 29th of February of the year 0, which MySQL does not have".into());
        }
        (DbBackend::Postgres, Some((year, ..))) if !(-4_712..=294_275).contains(&year) => {
            return Err("is a date outside of the years of PostgreSQL (4713 BC to 294276 AD)".into());
        }
        _ => {}
    }
    match (limit, moment.seconds) {
        (Limit::Time { most: Some(most), .. }, Some(seconds)) if !(1..=*most).contains(&seconds) => Err(
            "is outside of the years of a TIMESTAMP (1970 to 2038, or to 2106 on MariaDB 11.5 and newer): make the \
                 column a DATETIME(6)"
                .into(),
        ),
        (Limit::Time { most: Some(_), .. }, None) => Err("has no date, which a TIMESTAMP needs".into()),
        _ => Ok(()),
    }
}

fn fits_text(limit: &Text, value: &Value) -> Result<(), Reason> {
    let mut letter = [0; 4];
    let json;
    let text: &str = match value {
        Value::String(Some(text)) => text,
        Value::Enum(OptionEnum::Some(variant)) => &variant.value,
        Value::Char(Some(char)) => char.encode_utf8(&mut letter),
        // Where JSON is text.
        Value::Json(Some(value)) => {
            json = value.to_string();
            &json
        }
        _ => return Ok(()),
    };
    text_fits(limit, text)
}

/// Whether the column keeps this text.
pub(crate) fn text_fits(limit: &Text, text: &str) -> Result<(), Reason> {
    if let Some(most) = limit.bytes
        && text.len() as u64 > most
    {
        return Err(format!("has {} bytes, its column takes {most}", text.len()).into());
    }
    if let Some(most) = limit.characters
        && text.len() as u64 > most
    {
        let characters = text.chars().count() as u64;
        if characters > most {
            return Err(format!("has {characters} characters, its column takes {most}").into());
        }
    }
    if limit.pads == Pads::Stripped && text.ends_with(' ') {
        return Err("ends in a space, which a column of the type CHAR does not keep: make it a VARCHAR".into());
    }
    match limit.charset {
        Charset::ThreeBytes if text.chars().any(|char| char.len_utf8() > 3) => {
            Err("has a character of four bytes, which the character set utf8mb3 of its column does not have".into())
        }
        Charset::Ascii if !text.is_ascii() => {
            Err("has a character that the character set ascii of its column does not have".into())
        }
        _ => Ok(()),
    }
}

fn fits_bytes(most: u64, filled: bool, value: &Value) -> Result<(), Reason> {
    let length = match value {
        Value::Bytes(Some(bytes)) => bytes.len() as u64,
        Value::Uuid(Some(_)) => 16,
        _ => return Ok(()),
    };
    bytes_fit(most, filled, length)
}

/// Whether the column keeps so many bytes.
pub(crate) fn bytes_fit(most: u64, filled: bool, length: u64) -> Result<(), Reason> {
    if length > most {
        return Err(format!("has {length} bytes, its column takes {most}").into());
    }
    if filled && length < most {
        return Err(format!(
            "has {length} bytes, and its column of the type BINARY({most}) would fill it up with zeros: make it a \
             VARBINARY"
        )
        .into());
    }
    Ok(())
}

fn fits_affinity(affinity: Affinity, value: &Value) -> Result<(), Reason> {
    if !affinity.makes_numbers() {
        return Ok(());
    }
    let turned = match value {
        Value::String(Some(text)) => looks_numeric(text),
        Value::Enum(OptionEnum::Some(variant)) => looks_numeric(&variant.value),
        Value::Char(Some(char)) => char.is_ascii_digit(),
        Value::Json(Some(json)) => json.is_number(),
        Value::Decimal(Some(decimal)) if !is_double(decimal) => {
            return Err(
                "has more digits than the floating-point number that its column makes of it: make the column's \
                        type one with TEXT in its name"
                    .into(),
            );
        }
        _ => false,
    };
    if turned {
        return Err(
            "is text that looks like a number, and its column would make one of it: make the column's type TEXT".into(),
        );
    }
    Ok(())
}

/// Whether SQLite may take a text for a number.
pub(crate) fn looks_numeric(text: &str) -> bool {
    let text = text.trim_matches(|char: char| char.is_ascii_whitespace() || char == '\u{b}');
    text.ends_with(|char: char| char.is_ascii_digit() || char == '.') && text.parse::<f64>().is_ok()
}

/// Whether a decimal number comes back from a floating-point one, as SeaORM reads it.
fn is_double(decimal: &Decimal) -> bool {
    let double = decimal.to_string().parse::<f64>().ok();
    double.and_then(|double| Decimal::try_from(double).ok()) == Some(*decimal)
}

/// A number, exactly: what its digits are, and how many of them stand behind the point.
struct Number {
    negative: bool,
    digits: u128,
    /// Negative: so many zeros follow.
    behind: i32,
    /// Digits that PostgreSQL makes of a floating-point number when it becomes another one.
    double: Option<(f64, u32)>,
}

impl Number {
    /// `None`: no number, NULL, or none that has digits.
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::TinyInt(Some(n)) => Self::integer((*n).into()),
            Value::SmallInt(Some(n)) => Self::integer((*n).into()),
            Value::Int(Some(n)) => Self::integer((*n).into()),
            Value::BigInt(Some(n)) => Self::integer((*n).into()),
            Value::TinyUnsigned(Some(n)) => Self::integer((*n).into()),
            Value::SmallUnsigned(Some(n)) => Self::integer((*n).into()),
            Value::Unsigned(Some(n)) => Self::integer((*n).into()),
            Value::BigUnsigned(Some(n)) => Self::integer((*n).into()),
            Value::Decimal(Some(decimal)) => {
                let plain = decimal.normalize();
                Self {
                    negative: plain.is_sign_negative(),
                    digits: plain.mantissa().unsigned_abs(),
                    behind: i32::try_from(plain.scale()).unwrap_or(28),
                    double: None,
                }
                .trimmed()
            }
            Value::Float(Some(n)) => Self::float(f64::from(*n), &format!("{n:e}"), 6)?,
            Value::Double(Some(n)) => Self::float(*n, &format!("{n:e}"), 15)?,
            _ => return None,
        })
    }

    fn integer(n: i128) -> Self {
        Self { negative: n < 0, digits: n.unsigned_abs(), behind: 0, double: None }.trimmed()
    }

    /// The shortest text that reads as this number: `1.5e-7`.
    fn float(n: f64, text: &str, told: u32) -> Option<Self> {
        let (mantissa, exponent) = text.split_once('e')?;
        let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{}{behind}", before.trim_start_matches('-')).parse().ok()?;
        let behind = i32::try_from(behind.len()).ok()? - exponent.parse::<i32>().ok()?;
        Some(Self { negative: n < 0.0, digits, behind, double: Some((n, told)) }.trimmed())
    }

    /// Without zeros at the end.
    const fn trimmed(mut self) -> Self {
        if self.digits == 0 {
            self.behind = 0;
            return self;
        }
        while self.digits.is_multiple_of(10) {
            self.digits /= 10;
            self.behind -= 1;
        }
        self
    }

    fn count(&self) -> i32 {
        self.digits.checked_ilog10().map_or(0, |log| i32::try_from(log).unwrap_or(i32::MAX) + 1)
    }

    /// The integer that it is.
    fn as_integer(&self) -> Option<i128> {
        let zeros = u32::try_from(self.behind.checked_neg()?).ok()?;
        let n = i128::try_from(self.digits).ok()?.checked_mul(10_i128.checked_pow(zeros)?)?;
        Some(if self.negative { -n } else { n })
    }

    fn fits(&self, backend: DbBackend, limit: &Limit) -> Result<(), Reason> {
        match *limit {
            Limit::Integers { least, most } => match self.as_integer() {
                Some(n) if n < least => Err(format!("is below {least}, the least that its column takes").into()),
                Some(n) if n > most => Err(format!("is above {most}, the most that its column takes").into()),
                Some(_) => Ok(()),
                None if self.behind > 0 => Err("has a fraction, and its column takes integers".into()),
                None => Err("is larger than what its column takes".into()),
            },
            Limit::Year => match self.as_integer() {
                Some(0 | 1_901..=2_155) => Ok(()),
                _ => Err("is no year that its column has: 1901 to 2155, and 0".into()),
            },
            Limit::Single => self.fits_float("four bytes", |n| f64::from(narrow(n))),
            Limit::Double => self.fits_float("eight bytes", |n| n),
            Limit::Decimal(digits) => self.fits_decimal(backend, digits),
            _ => Ok(()),
        }
    }

    fn fits_float(&self, size: &str, held: impl Fn(f64) -> f64) -> Result<(), Reason> {
        let same = match (self.double, self.as_integer()) {
            (Some((n, _)), _) => held(n) == n,
            (None, Some(integer)) => exact(held, integer),
            (None, None) => false,
        };
        if same {
            return Ok(());
        }
        Err(format!("has more digits than the floating-point number of {size} that its column holds").into())
    }

    fn fits_decimal(&self, backend: DbBackend, Digits { whole, scale, single }: Digits) -> Result<(), Reason> {
        if self.digits == 0 {
            return Ok(());
        }
        if let Some(scale) = scale
            && self.behind > scale
        {
            return Err(format!("has more digits behind the point than the {scale} that its column keeps").into());
        }
        if let Some(whole) = whole
            && self.count() - self.behind > whole
        {
            return Err(format!("has more digits before the point than the {whole} that its column takes").into());
        }
        if single {
            self.fits_float("four bytes", |n| f64::from(narrow(n)))?;
        }
        match self.double {
            Some((_, told)) if backend == DbBackend::Postgres && self.count() > i32::try_from(told).unwrap_or(0) => {
                Err(format!(
                    "is a floating-point number of more than {told} digits, which PostgreSQL rounds in a numeric"
                )
                .into())
            }
            _ => Ok(()),
        }
    }
}

/// What is lost is looked for.
const fn narrow(n: f64) -> f32 {
    n as f32
}

/// Whether an integer comes back; what is lost is looked for.
fn exact(held: impl Fn(f64) -> f64, integer: i128) -> bool {
    held(integer as f64) as i128 == integer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(backend: DbBackend, limit: &Limit, value: impl Into<Value>) -> bool {
        fits(backend, limit, &value.into()).is_ok()
    }

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn decimals_fit_by_their_digits_and_not_by_their_zeros() {
        const PG: DbBackend = DbBackend::Postgres;
        let limit = |precision: i32, scale| {
            Limit::Decimal(Digits { whole: Some(precision - scale), scale: Some(scale), single: false })
        };
        for (text, precision, scale, fits) in [
            ("12.34", 10, 0, false),
            ("12.00", 10, 0, true),
            ("12.34", 10, 1, false),
            ("12.3400", 4, 2, true),
            ("123.4", 4, 2, false),
            ("-99.99", 4, 2, true),
            ("0.001", 3, 5, true),
            ("0.01", 3, 5, false),
            ("12000", 2, -3, true),
            ("12100", 2, -3, false),
            ("0", 1, 1, true),
            ("79228162514264337593543950335", 57, 28, true),
            ("0.0000000000000000000000000001", 57, 28, true),
        ] {
            assert_eq!(holds(PG, &limit(precision, scale), decimal(text)), fits, "{text} in ({precision}, {scale})");
        }
    }

    #[test]
    fn numbers_in_columns_of_another_kind() {
        const PG: DbBackend = DbBackend::Postgres;
        assert!(holds(PG, &Limit::Single, 0.5_f64));
        assert!(!holds(PG, &Limit::Single, 0.1_f64));
        assert!(holds(PG, &Limit::Single, 0.1_f32));
        assert!(holds(PG, &Limit::Double, 0.1_f64));
        assert!(holds(PG, &Limit::Double, 1_i64 << 53));
        assert!(!holds(PG, &Limit::Double, (1_i64 << 53) + 1));
        assert!(!holds(PG, &Limit::Double, i64::MAX));
        assert!(!holds(PG, &Limit::Single, 16_777_217_i32));
        let numeric = Limit::Decimal(Digits::default());
        assert!(holds(PG, &numeric, 0.3_f64));
        assert!(!holds(PG, &numeric, 0.1_f64 + 0.2));
        assert!(holds(PG, &numeric, u64::MAX));
        let byte = Limit::Integers { least: -128, most: 127 };
        assert!(holds(PG, &byte, -128_i64) && !holds(PG, &byte, 128_i64) && !holds(PG, &byte, 1.5_f64));
        assert!(holds(PG, &byte, 100.0_f64) && !holds(PG, &byte, 1e300) && !holds(PG, &byte, f64::NAN));
        assert!(holds(PG, &Limit::Double, f64::MIN_POSITIVE) && holds(PG, &Limit::Double, f64::MAX));
    }

    #[test]
    fn text_that_the_column_would_change() {
        const MY: DbBackend = DbBackend::MySql;
        let text = |pads, charset| Limit::Text(Text { characters: Some(4), bytes: None, pads, charset });
        let varchar = text(Pads::No, Charset::All);
        assert!(holds(MY, &varchar, "äöü ") && !holds(MY, &varchar, "abcd "));
        let stripped = text(Pads::Stripped, Charset::All);
        assert!(holds(MY, &stripped, "ab") && !holds(MY, &stripped, "ab "));
        assert!(!holds(MY, &text(Pads::No, Charset::ThreeBytes), "\u{1f980}"));
        assert!(!holds(MY, &text(Pads::No, Charset::Ascii), "ä"));
        let binary = Limit::Bytes { most: 4, filled: true };
        assert!(holds(MY, &binary, vec![0_u8; 4]) && !holds(MY, &binary, vec![0_u8; 3]));
    }

    #[test]
    fn what_sqlite_would_make_a_number_of() {
        const LITE: DbBackend = DbBackend::Sqlite;
        let numeric = Limit::Affinity(Affinity::Numeric);
        for text in ["007", " 7 ", "1e5", "-.5", "+5.", "1.50"] {
            assert!(!holds(LITE, &numeric, text), "{text}");
            assert!(holds(LITE, &Limit::Affinity(Affinity::Text), text));
        }
        for text in ["", "inf", "nan", "0x10", "1 2", "abc", "2024-01-01"] {
            assert!(holds(LITE, &numeric, text), "{text}");
        }
        let real = Limit::Affinity(Affinity::Real);
        assert!(holds(LITE, &real, decimal("12.34")));
        assert!(!holds(LITE, &real, decimal("99999999999999999999")));
        assert!(holds(LITE, &Limit::Affinity(Affinity::Text), decimal("99999999999999999999")));
    }
}
