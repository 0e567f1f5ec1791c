//! Dates and times, whatever library they are of: cut to what a column keeps, and as MySQL takes them.

use sea_orm::sea_query::prelude::chrono::{self, Datelike, Offset, Timelike, Utc};
use sea_orm::sea_query::prelude::time;
use sea_orm::{DbBackend, Value};

/// What is judged of a date or a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Year, month and day as they are stored: of a moment, in UTC.
    pub(crate) date: Option<(i32, u32, u32)>,
    /// Of the second; a billion and more in a leap second.
    pub(crate) nanos: u32,
    /// Since 1970, of what has a date and a time.
    pub(crate) seconds: Option<i64>,
    /// The offset from UTC has seconds.
    pub(crate) odd_offset: bool,
    /// The date is stored in its own offset (SQLite), and is this one there.
    pub(crate) local_year: Option<i32>,
}

const BILLION: u32 = 1_000_000_000;

impl Moment {
    /// `None`: no date or time, or NULL.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::ChronoDate(Some(date)) => Self { date: Some(chrono_date(date)), ..Self::default() },
            Value::ChronoTime(Some(time)) => Self { nanos: time.nanosecond(), ..Self::default() },
            Value::ChronoDateTime(Some(time)) => Self::of_chrono(time),
            Value::ChronoDateTimeUtc(Some(time)) => Self::of_chrono(&time.naive_utc()),
            Value::ChronoDateTimeLocal(Some(time)) => Self {
                odd_offset: time.offset().fix().local_minus_utc() % 60 != 0,
                local_year: Some(time.year()),
                ..Self::of_chrono(&time.naive_utc())
            },
            Value::ChronoDateTimeWithTimeZone(Some(time)) => Self {
                odd_offset: time.offset().local_minus_utc() % 60 != 0,
                local_year: Some(time.year()),
                ..Self::of_chrono(&time.naive_utc())
            },
            Value::TimeDate(Some(date)) => Self { date: Some(time_date(*date)), ..Self::default() },
            Value::TimeTime(Some(time)) => Self { nanos: time.nanosecond(), ..Self::default() },
            Value::TimeDateTime(Some(time)) => Self::of_time(time.assume_utc()),
            Value::TimeDateTimeWithTimeZone(Some(time)) => Self {
                odd_offset: time.offset().seconds_past_minute() != 0,
                local_year: Some(time.year()),
                ..Self::of_time(*time)
            },
            _ => return None,
        })
    }

    fn of_chrono(time: &chrono::NaiveDateTime) -> Self {
        Self {
            date: Some(chrono_date(&time.date())),
            nanos: time.nanosecond(),
            seconds: Some(time.and_utc().timestamp()),
            ..Self::default()
        }
    }

    fn of_time(time: time::OffsetDateTime) -> Self {
        // At the ends of the library's range the same moment has no date in UTC.
        let beyond = if time.year() < 0 { -10_000 } else { 10_000 };
        let utc = time.checked_to_offset(time::UtcOffset::UTC);
        Self {
            date: Some(utc.map_or((beyond, 1, 1), |utc| time_date(utc.date()))),
            nanos: time.nanosecond(),
            seconds: Some(time.unix_timestamp()),
            ..Self::default()
        }
    }

    pub(crate) const fn is_leap(&self) -> bool {
        self.nanos >= BILLION
    }

    /// Whether the fraction has more than so many digits.
    pub(crate) const fn is_finer(&self, digits: u32) -> bool {
        !self.nanos.is_multiple_of(unit(digits))
    }
}

fn chrono_date(date: &chrono::NaiveDate) -> (i32, u32, u32) {
    (date.year(), date.month(), date.day())
}

fn time_date(date: time::Date) -> (i32, u32, u32) {
    (date.year(), u32::from(u8::from(date.month())), u32::from(date.day()))
}

/// Nanoseconds in the last of so many digits.
const fn unit(digits: u32) -> u32 {
    10_u32.pow(9_u32.saturating_sub(digits))
}

/// The value with so many digits of its fraction of a second; `None` where it has no more. A leap second is left as it is, and
/// refused later; so is an offset that its text in the buffer does not have, because the copy that is cut comes from there.
pub(crate) fn cut(value: &Value, digits: u32) -> Option<Value> {
    #[cfg(feature = "postgres")]
    if let Value::Array(kind, Some(items)) = value {
        let cuts: Vec<Option<Value>> = items.iter().map(|item| cut(item, digits)).collect();
        return cuts.iter().any(Option::is_some).then(|| {
            let items = items.iter().zip(cuts).map(|(item, cut)| cut.unwrap_or_else(|| item.clone()));
            Value::Array(kind.clone(), Some(Box::new(items.collect())))
        });
    }
    let moment = Moment::of(value)?;
    if moment.is_leap() || moment.odd_offset || !moment.is_finer(digits) {
        return None;
    }
    let rest = moment.nanos % unit(digits);
    let (nanos, rest) = (moment.nanos - rest, chrono::TimeDelta::nanoseconds(i64::from(rest)));
    Some(match value {
        Value::ChronoTime(Some(time)) => Value::ChronoTime(Some(time.with_nanosecond(nanos)?)),
        Value::ChronoDateTime(Some(time)) => Value::ChronoDateTime(Some(time.checked_sub_signed(rest)?)),
        // Subtracted, because a local time may be there twice.
        Value::ChronoDateTimeUtc(Some(time)) => Value::ChronoDateTimeUtc(Some((*time).checked_sub_signed(rest)?)),
        Value::ChronoDateTimeLocal(Some(time)) => Value::ChronoDateTimeLocal(Some((*time).checked_sub_signed(rest)?)),
        Value::ChronoDateTimeWithTimeZone(Some(time)) => {
            Value::ChronoDateTimeWithTimeZone(Some((*time).checked_sub_signed(rest)?))
        }
        Value::TimeTime(Some(time)) => Value::TimeTime(Some(time.replace_nanosecond(nanos).ok()?)),
        Value::TimeDateTime(Some(time)) => Value::TimeDateTime(Some(time.replace_nanosecond(nanos).ok()?)),
        Value::TimeDateTimeWithTimeZone(Some(time)) => {
            Value::TimeDateTimeWithTimeZone(Some(time.replace_nanosecond(nanos).ok()?))
        }
        _ => return None,
    })
}

/// A moment as the date and time that it is in UTC, on MySQL: bound as a `TIMESTAMP`, as the driver does, it is NULL outside the
/// years of that type, whatever the column's.
pub(crate) fn as_bound(backend: DbBackend, value: Value) -> Value {
    if backend != DbBackend::MySql {
        return value;
    }
    match value {
        Value::ChronoDateTimeUtc(time) => Value::ChronoDateTime(time.map(|time| time.naive_utc())),
        Value::ChronoDateTimeLocal(time) => {
            Value::ChronoDateTime(time.map(|time| time.with_timezone(&Utc).naive_utc()))
        }
        Value::ChronoDateTimeWithTimeZone(time) => Value::ChronoDateTime(time.map(|time| time.naive_utc())),
        Value::TimeDateTimeWithTimeZone(time) => Value::TimeDateTime(time.and_then(|time| {
            let utc = time.checked_to_offset(time::UtcOffset::UTC)?;
            Some(time::PrimitiveDateTime::new(utc.date(), utc.time()))
        })),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u32) -> Value {
        let time = chrono::NaiveDate::from_ymd_opt(2024, 2, 29).and_then(|date| date.and_hms_nano_opt(1, 2, 59, nanos));
        Value::ChronoDateTime(time)
    }

    #[test]
    fn a_fraction_is_cut_and_never_rounded() {
        assert_eq!(cut(&at(999_999_999), 6), Some(at(999_999_000)));
        assert_eq!(cut(&at(999_999_999), 3), Some(at(999_000_000)));
        assert_eq!(cut(&at(999_999_999), 0), Some(at(0)));
        assert_eq!(cut(&at(999_999_000), 6), None);
        assert_eq!(cut(&at(1_000_000_001), 6), None, "a leap second");
        assert_eq!(cut(&at(1), 9), None);
    }

    #[test]
    fn mysql_gets_moments_as_dates_and_times_in_utc() {
        let moment = chrono::DateTime::parse_from_rfc3339("2099-12-31T01:00:00+02:00").ok();
        let bound = as_bound(DbBackend::MySql, Value::ChronoDateTimeWithTimeZone(moment));
        let utc = chrono::NaiveDate::from_ymd_opt(2099, 12, 30).and_then(|date| date.and_hms_opt(23, 0, 0));
        assert_eq!(bound, Value::ChronoDateTime(utc));
        let same = Value::ChronoDateTimeWithTimeZone(moment);
        assert_eq!(as_bound(DbBackend::Postgres, same.clone()), same);
    }
}
