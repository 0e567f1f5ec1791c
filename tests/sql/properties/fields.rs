//! A row with a field of every type, of which one has a value: drawn, read past the framework, compared.

use chrono::{
    DateTime, Datelike, FixedOffset, Local, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike, Utc,
};
use rust_decimal::Decimal;
use sea_orm::prelude::{TimeDate, TimeDateTime, TimeDateTimeWithTimeZone, TimeTime};
use sea_orm::sea_query::prelude::time;
use sea_orm::{DbBackend, QueryResult};
use serde_json::json;
use uuid::Uuid;

use super::{Draw, is};

/// A type of a field.
trait Field: Clone + std::fmt::Debug + Sized {
    fn draw(edge: u8, a: u64, b: u64) -> Self;

    /// What is selected of the column.
    fn read(backend: DbBackend, name: &str) -> String {
        let _ = backend;
        name.to_owned()
    }

    fn of_row(backend: DbBackend, row: &QueryResult) -> Self;

    fn is_same(&self, other: &Self) -> bool;

    /// Nanoseconds since some time, of what has a fraction of a second.
    fn nanos(&self) -> Option<i128> {
        None
    }

    fn is_cut_of(&self, whole: &Self) -> bool {
        match (self.nanos(), whole.nanos()) {
            (Some(cut), Some(whole)) => (0..1_000_000_000).contains(&(whole - cut)),
            _ => self.is_same(whole),
        }
    }
}

macro_rules! kept {
    ($($number:literal $name:ident: $ty:ty,)*) => {
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
        #[wb(name = "kept", table = "kept", format = "msgpack")]
        pub(crate) struct Kept {
            #[wb(key)]
            pub(crate) id: i64,
            $($name: Option<$ty>,)*
        }

        /// Fields beside the key.
        pub(crate) const FIELDS: usize = [$($number),*].len();

        impl Kept {
            fn empty(id: i64) -> Self {
                Self { id, $($name: None,)* }
            }

            pub(crate) fn name(field: usize) -> &'static str {
                match field {
                    $($number => stringify!($name),)*
                    _ => unreachable!(),
                }
            }

            pub(crate) fn draw(id: i64, (field, edge, a, b): Draw) -> Self {
                match field % FIELDS {
                    $($number => Self { $name: Some(Field::draw(edge, a, b)), ..Self::empty(id) },)*
                    _ => unreachable!(),
                }
            }

            pub(crate) fn read(backend: DbBackend, field: usize) -> String {
                match field {
                    $($number => format!("{} AS c", <$ty as Field>::read(backend, stringify!($name))),)*
                    _ => unreachable!(),
                }
            }

            pub(crate) fn of_row(backend: DbBackend, row: &QueryResult, id: i64, field: usize) -> Self {
                match field {
                    $($number => Self { $name: Some(<$ty as Field>::of_row(backend, row)), ..Self::empty(id) },)*
                    _ => unreachable!(),
                }
            }

            pub(crate) fn is_same(&self, other: &Self) -> bool {
                self.id == other.id $(&& both(&self.$name, &other.$name, Field::is_same))*
            }

            pub(crate) fn is_cut_of(&self, whole: &Self) -> bool {
                self.id == whole.id $(&& both(&self.$name, &whole.$name, Field::is_cut_of))*
            }
        }
    };
}

fn both<T>(one: &Option<T>, other: &Option<T>, compare: impl Fn(&T, &T) -> bool) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => compare(one, other),
        _ => false,
    }
}

kept! {
    0 f_i8: i8,
    1 f_i16: i16,
    2 f_i32: i32,
    3 f_i64: i64,
    4 f_u8: u8,
    5 f_u16: u16,
    6 f_u32: u32,
    7 f_u64: u64,
    8 f_f32: f32,
    9 f_f64: f64,
    10 f_bool: bool,
    11 f_text: String,
    12 f_bytes: Vec<u8>,
    13 f_uuid: Uuid,
    14 f_decimal: Decimal,
    15 f_date: NaiveDate,
    16 f_t_date: TimeDate,
    17 f_time: NaiveTime,
    18 f_t_time: TimeTime,
    19 f_date_time: NaiveDateTime,
    20 f_t_date_time: TimeDateTime,
    21 f_utc: DateTime<Utc>,
    22 f_fixed: DateTime<FixedOffset>,
    23 f_local: DateTime<Local>,
    24 f_t_offset: TimeDateTimeWithTimeZone,
    25 f_json: serde_json::Value,
}

fn as_text(backend: DbBackend, name: &str) -> String {
    match backend {
        DbBackend::Postgres => format!("{name}::text"),
        DbBackend::MySql => format!("CAST({name} AS CHAR)"),
        _ => name.to_owned(),
    }
}

fn get<T: sea_orm::TryGetable>(row: &QueryResult) -> T {
    row.try_get("", "c").unwrap()
}

fn integer(backend: DbBackend, row: &QueryResult) -> i128 {
    if is(backend, DbBackend::Sqlite) {
        return row.try_get::<i64>("", "c").map(i128::from).unwrap_or_else(|_| get::<f64>(row) as i128);
    }
    let text: String = get(row);
    // A decimal takes the shortest text of a floating-point number for all of its digits.
    match text.parse::<Decimal>() {
        Ok(decimal) if !text.contains('e') && decimal.fract().is_zero() => {
            decimal.normalize().to_string().parse().unwrap()
        }
        _ => text.parse::<f64>().unwrap() as i128,
    }
}

fn draw_integer(edge: u8, a: u64, b: u64, least: i128, most: i128) -> i128 {
    let drawn = match edge % 10 {
        0 => least,
        1 => most,
        2 => 0,
        3 => -1,
        4 => (1 << 24) + 1,
        5 => (1 << 53) + 1,
        6 => 9_999,
        7 => 10_000,
        8 => -i128::from(a >> (b % 64)),
        _ => i128::from(a >> (b % 64)),
    };
    drawn.clamp(least, most)
}

macro_rules! integers {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            fn draw(edge: u8, a: u64, b: u64) -> Self {
                Self::try_from(draw_integer(edge, a, b, Self::MIN.into(), Self::MAX.into())).unwrap()
            }
            fn read(backend: DbBackend, name: &str) -> String {
                let text = as_text(backend, name);
                if !is(backend, DbBackend::Postgres) {
                    return text;
                }
                // The text of a floating-point number of four bytes is the shortest, and another integer.
                format!("CASE pg_typeof({name})::text WHEN 'real' THEN ({name}::float8)::text ELSE {text} END")
            }
            fn of_row(backend: DbBackend, row: &QueryResult) -> Self {
                Self::try_from(integer(backend, row)).unwrap()
            }
            fn is_same(&self, other: &Self) -> bool {
                self == other
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, u8, u16, u32, u64);

fn float(backend: DbBackend, row: &QueryResult) -> f64 {
    if is(backend, DbBackend::Sqlite) {
        return row.try_get::<f64>("", "c").unwrap_or_else(|_| get::<i64>(row) as f64);
    }
    get::<String>(row).parse().unwrap()
}

fn float_as_text(backend: DbBackend, name: &str) -> String {
    if is(backend, DbBackend::MySql) { format!("CAST({name} + 0e0 AS CHAR)") } else { as_text(backend, name) }
}

macro_rules! floats {
    ($($ty:ty, $bits:ty);*) => {$(
        impl Field for $ty {
            fn draw(edge: u8, a: u64, b: u64) -> Self {
                match edge % 14 {
                    0 => 0.1,
                    1 => 0.1 + 0.2,
                    2 => Self::MAX,
                    3 => Self::MIN_POSITIVE,
                    4 => Self::from_bits(1),
                    5 => Self::NAN,
                    6 => Self::NEG_INFINITY,
                    7 => -0.0,
                    8 => 123.456,
                    9 => 1e15,
                    10 => 16_777_216.0,
                    11 => Self::from(a as i16) / 8.0,
                    12 => Self::from(b as i16),
                    _ => Self::from_bits(a as $bits),
                }
            }
            fn read(backend: DbBackend, name: &str) -> String {
                float_as_text(backend, name)
            }
            fn of_row(backend: DbBackend, row: &QueryResult) -> Self {
                float(backend, row) as Self
            }
            fn is_same(&self, other: &Self) -> bool {
                self == other || (self.is_nan() && other.is_nan())
            }
        }
    )*};
}

floats!(f32, u32; f64, u64);

impl Field for bool {
    fn draw(edge: u8, _: u64, _: u64) -> Self {
        edge.is_multiple_of(2)
    }
    fn of_row(_: DbBackend, row: &QueryResult) -> Self {
        get(row)
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Field for String {
    fn draw(edge: u8, a: u64, b: u64) -> Self {
        const LETTERS: [char; 12] = ['a', 'B', '7', '.', ' ', 'e', 'ä', '\u{1f980}', '\0', '\n', '\'', '-'];
        match edge % 16 {
            0 => Self::new(),
            1 => " ".into(),
            2 => "a ".into(),
            3 => "abc   ".into(),
            4 => "007".into(),
            5 => " 1e5 ".into(),
            6 => "a\0".into(),
            7 => "\u{1f980}".into(),
            8 => "äöü".into(),
            9 => "abc".into(),
            10 => "x".repeat(300),
            11 => "x".repeat(70_000),
            12 => "ä".repeat(64),
            13 => "inf".into(),
            _ => (0..b % 9).map(|n| LETTERS[(a >> (n * 4)) as usize % LETTERS.len()]).collect(),
        }
    }
    fn read(backend: DbBackend, name: &str) -> String {
        // As the text that it is: spaces that fill a `char(n)` up are none of its value there.
        if is(backend, DbBackend::Postgres) { as_text(backend, name) } else { name.to_owned() }
    }
    fn of_row(_: DbBackend, row: &QueryResult) -> Self {
        get(row)
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Field for Vec<u8> {
    fn draw(edge: u8, a: u64, b: u64) -> Self {
        match edge % 8 {
            0 => Self::new(),
            1 => vec![0],
            2 => vec![1, 0, 0],
            3 => vec![0x37, 0x2e],
            4 => vec![255; 300],
            5 => vec![7; 70_000],
            _ => a.to_le_bytes()[..b as usize % 8].to_vec(),
        }
    }
    fn of_row(_: DbBackend, row: &QueryResult) -> Self {
        get(row)
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Field for Uuid {
    fn draw(edge: u8, a: u64, b: u64) -> Self {
        match edge % 4 {
            0 => Self::nil(),
            1 => Self::max(),
            _ => Self::from_u64_pair(a, b),
        }
    }
    fn of_row(_: DbBackend, row: &QueryResult) -> Self {
        get(row)
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Field for Decimal {
    fn draw(edge: u8, a: u64, b: u64) -> Self {
        match edge % 14 {
            0 => Self::new(1_234, 2),
            1 => Self::from(99_999_999_999_999_999_999_u128),
            2 => Self::MAX,
            3 => Self::MIN,
            4 => Self::new(1, 28),
            5 => Self::ZERO,
            6 => Self::new(125_000, 4),
            7 => Self::new(-5, 2),
            8 => Self::from_i128_with_scale((1 << 96) - 1, 28),
            9 => Self::new(999, 3),
            10 => Self::new(a as i64, (b % 5) as u32),
            11 => Self::new(i64::from(a as i16), (b % 3) as u32),
            _ => Self::from_i128_with_scale((i128::from(a) << 32) + i128::from(b as u32), (b % 29) as u32),
        }
    }
    fn read(backend: DbBackend, name: &str) -> String {
        as_text(backend, name)
    }
    fn of_row(backend: DbBackend, row: &QueryResult) -> Self {
        if is(backend, DbBackend::Sqlite) {
            let integer = |_| row.try_get::<i64>("", "c").map(Self::from);
            let double = |_| row.try_get::<f64>("", "c").map(|double| Self::try_from(double).unwrap());
            return row
                .try_get::<String>("", "c")
                .map(|text| text.parse().unwrap())
                .or_else(integer)
                .or_else(double)
                .unwrap();
        }
        get::<String>(row).parse().unwrap()
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

fn draw_date(edge: u8, a: u64) -> NaiveDate {
    let day = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).unwrap();
    match edge % 18 {
        0 => day(2099, 12, 31),
        1 => day(9_999, 12, 31),
        2 => day(10_000, 1, 1),
        3 => day(1, 1, 1),
        4 => day(0, 2, 29),
        5 => day(-1, 1, 1),
        6 => day(1_000, 1, 1),
        7 => day(-4_712, 1, 1),
        8 => day(-4_713, 12, 31),
        9 => day(200_000, 1, 1),
        10 => day(-200_000, 1, 1),
        11 => day(1969, 12, 31),
        12 => day(1970, 1, 1),
        13 => day(2038, 1, 19),
        14 => day(2106, 2, 8),
        15 => day(0, 12, 31),
        _ => NaiveDate::from_num_days_from_ce_opt((a % 4_000_000) as i32 - 100_000).unwrap(),
    }
}

fn draw_time(b: u64) -> NaiveTime {
    let at = |h, m, s, n| NaiveTime::from_hms_nano_opt(h, m, s, n).unwrap();
    match b % 12 {
        0 => at(0, 0, 0, 0),
        1 => at(23, 59, 59, 999_999_999),
        2 => at(23, 59, 59, 1_500_000_000),
        3 => at(3, 14, 7, 0),
        4 => at(3, 14, 8, 0),
        5 => at(0, 0, 1, 0),
        6 => at(12, 0, 0, 1),
        7 => at(12, 0, 0, 500_000_000),
        8 => at(23, 59, 59, 999_999_000),
        9 => at(1, 2, 3, 456_000_000),
        _ => NaiveTime::from_num_seconds_from_midnight_opt((b % 86_400) as u32, (b >> 17) as u32 % 1_000_000_000)
            .unwrap(),
    }
}

/// The date of the other library; its years are fewer.
fn time_date(date: NaiveDate) -> TimeDate {
    let month = time::Month::try_from(date.month() as u8).unwrap();
    TimeDate::from_calendar_date(date.year().clamp(-9_999, 9_999), month, date.day().min(28) as u8).unwrap()
}

fn time_time(time: NaiveTime) -> TimeTime {
    let [h, m, s] = [time.hour(), time.minute(), time.second()].map(|part| part as u8);
    TimeTime::from_hms_nano(h, m, s, time.nanosecond() % 1_000_000_000).unwrap()
}

fn nanos_of(time: &NaiveDateTime) -> i128 {
    i128::from(time.and_utc().timestamp()) * 1_000_000_000 + i128::from(time.nanosecond())
}

macro_rules! times {
    ($($ty:ty: |$edge:ident, $a:ident, $b:ident| $draw:expr, |$value:ident| $nanos:expr;)*) => {$(
        impl Field for $ty {
            fn draw($edge: u8, $a: u64, $b: u64) -> Self {
                let _ = $a;
                $draw
            }
            fn read(backend: DbBackend, name: &str) -> String {
                let wall_clock = std::any::type_name::<Self>().contains("Naive") || stringify!($ty) == "TimeDateTime";
                match wall_clock && stringify!($ty).contains("DateTime") && is(backend, DbBackend::MySql) {
                    // The driver reads no TIMESTAMP as one.
                    true => format!("CAST({name} AS DATETIME(6))"),
                    false => name.to_owned(),
                }
            }
            fn of_row(_: DbBackend, row: &QueryResult) -> Self {
                get(row)
            }
            fn is_same(&self, other: &Self) -> bool {
                self == other
            }
            fn nanos(&self) -> Option<i128> {
                let $value = self;
                $nanos
            }
        }
    )*};
}

times! {
    NaiveDate: |edge, a, _b| draw_date(edge, a), |_value| None;
    TimeDate: |edge, a, _b| time_date(draw_date(edge, a)), |_value| None;
    NaiveTime: |_edge, a, b| draw_time(b), |value|
        Some(i128::from(value.num_seconds_from_midnight()) * 1_000_000_000 + i128::from(value.nanosecond()));
    TimeTime: |_edge, a, b| time_time(draw_time(b)), |value|
        Some((*value - TimeTime::MIDNIGHT).whole_nanoseconds());
    NaiveDateTime: |edge, a, b| draw_date(edge, a).and_time(draw_time(b)), |value| Some(nanos_of(value));
    TimeDateTime: |edge, a, b| TimeDateTime::new(time_date(draw_date(edge, a)), time_time(draw_time(b))), |value|
        Some(value.assume_utc().unix_timestamp_nanos());
    DateTime<Utc>: |edge, a, b| draw_date(edge, a).and_time(draw_time(b)).and_utc(), |value|
        Some(nanos_of(&value.naive_utc()));
    DateTime<FixedOffset>: |edge, a, b| {
        let seconds = [0, 19_800, -39_600, 3_723, 86_399][(a >> 48) as usize % 5];
        let utc = draw_date(edge, a).and_time(draw_time(b));
        FixedOffset::east_opt(seconds).unwrap().from_utc_datetime(&utc)
    }, |value| Some(nanos_of(&value.naive_utc()));
    DateTime<Local>: |edge, a, b| {
        let utc = draw_date(edge, a).and_time(draw_time(b));
        DateTime::from_naive_utc_and_offset(utc, Utc.fix())
    }, |value| Some(nanos_of(&value.naive_utc()));
    TimeDateTimeWithTimeZone: |edge, a, b| {
        let offset = [(0, 0, 0), (5, 30, 0), (-11, 0, 0), (1, 2, 3), (23, 59, 59)][(a >> 48) as usize % 5];
        let offset = time::UtcOffset::from_hms(offset.0, offset.1, offset.2).unwrap();
        TimeDateTime::new(time_date(draw_date(edge, a)), time_time(draw_time(b))).assume_offset(offset)
    }, |value| Some(value.unix_timestamp_nanos());
}

impl Field for serde_json::Value {
    fn draw(edge: u8, a: u64, b: u64) -> Self {
        match edge % 12 {
            0 => json!({}),
            1 => json!([1, -2, 3.5, null, true, { "b": "c", "a": [] }]),
            2 => json!("a\0"),
            3 => json!(7),
            4 => json!("007"),
            5 => json!(i64::MIN),
            6 => json!({ "\u{1f980}": "ä" }),
            7 => json!("x".repeat(300)),
            8 => json!(0.1),
            9 => json!({ "n": (a as i16) as f64 / 8.0 }),
            10 => json!([a, b]),
            _ => json!(false),
        }
    }
    fn of_row(_: DbBackend, row: &QueryResult) -> Self {
        get(row)
    }
    fn is_same(&self, other: &Self) -> bool {
        // Numbers are what they say, however they are written.
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => one == other || one.as_f64() == other.as_f64(),
            (Self::Array(one), Self::Array(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.is_same(other))
            }
            (Self::Object(one), Self::Object(others)) => {
                one.len() == others.len()
                    && one.iter().all(|(name, one)| others.get(name).is_some_and(|other| one.is_same(other)))
            }
            _ => self == other,
        }
    }
}
