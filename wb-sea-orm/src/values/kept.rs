//! What a table does to the values of its columns: how it compares texts, and which values it would change in silence, so that
//! one key's record would land in the row of another.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use sea_orm::sea_query::prelude::Uuid;
use sea_orm::sea_query::{ArrayType, OptionEnum};
use sea_orm::{DbBackend, DbErr, QueryResult, Value};
use wb_core::SinkError;

use crate::connection::tx::Pool;
use crate::examine::live_table::ask;
use crate::examine::table_facts::fold;
use crate::mapping::entity::{Column, Table};
use crate::statement::dialect::{is_text, postgres};
use crate::statement::plan::is_integer;

/// How a table keeps a column's values. The default is a column of which nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The column's own type, quoted: a text is cast to it, so that the column's index serves (PostgreSQL).
    pub(crate) cast: Option<String>,
    /// What takes different texts for equal, for people: a collation or a type.
    pub(crate) compares: Option<String>,
    /// Values that it changes when they are stored.
    pub(crate) changes: Vec<Change>,
}

/// Values that a column changes when they are stored, or takes for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Spaces at the end are no part of the value.
    Trims,
    /// White space beyond so many characters is cut, and nothing is said. (What else is beyond is an error of the database.)
    CutsSpaces(usize),
    /// Whatever is beyond so many bytes is cut.
    CutsBytes(usize),
    /// Shorter ones are filled up to so many bytes.
    Fills(usize),
    /// What looks like a number becomes one.
    Numbers,
    /// Integers beyond this are rounded.
    Rounds(i128),
    /// What is none of these is another of them, or none.
    Chooses(Vec<String>),
    /// What is not some of these in their order, with commas between them, is changed into that, or none.
    Combines(Vec<String>),
    /// All spellings of a UUID are one.
    Uuids,
    /// All spellings of an address are one.
    Addresses,
}

impl Kept {
    /// Why the column would not keep this value as it is.
    pub(crate) fn keeps(&self, value: &Value) -> Result<(), &'static str> {
        self.changes.iter().try_for_each(|change| change.spares(value))
    }
}

impl Change {
    /// Whether it can happen to the values of a column as it is mapped.
    fn concerns(&self, mapped: &Column) -> bool {
        match self {
            Self::Fills(_) => mapped.array_type == ArrayType::Bytes,
            Self::Rounds(_) => is_integer(mapped),
            _ => is_text(mapped),
        }
    }

    fn spares(&self, value: &Value) -> Result<(), &'static str> {
        match value {
            Value::String(Some(text)) => self.spares_text(text),
            Value::Char(Some(letter)) => self.spares_text(letter.encode_utf8(&mut [0; 4])),
            Value::Enum(OptionEnum::Some(variant)) => self.spares_text(&variant.value),
            Value::Bytes(Some(bytes)) => match self {
                Self::Fills(width) if bytes.len() < *width => {
                    Err("is shorter than its column, which fills it up with zeros")
                }
                _ => Ok(()),
            },
            value => match (self, integer(value)) {
                (Self::Rounds(most), Some(number)) if number.abs() > *most => {
                    Err("is larger than the integers that its column, of floating-point numbers, keeps apart")
                }
                _ => Ok(()),
            },
        }
    }

    /// The same, of a text.
    pub(crate) fn spares_text(&self, text: &str) -> Result<(), &'static str> {
        let changed = |is_changed: bool, why| if is_changed { Err(why) } else { Ok(()) };
        match self {
            Self::Trims => changed(text.ends_with(' '), "ends in a space, which its column does not keep"),
            Self::CutsSpaces(most) => {
                let is_cut = beyond(text, *most).is_some_and(|rest| rest.chars().all(char::is_whitespace));
                changed(is_cut, "is longer than its column by white space, which that would cut")
            }
            Self::CutsBytes(most) => changed(text.len() > *most, "is longer than its column, which would cut it"),
            Self::Numbers => changed(is_number(text), "looks like a number, which its column would store it as"),
            Self::Chooses(values) => {
                changed(!values.iter().any(|value| value == text), "is none of the values of its column")
            }
            Self::Combines(values) => {
                let mut values = values.iter();
                let some = text.is_empty() || text.split(',').all(|part| values.any(|value| value == part));
                changed(!some, "is not some of the values of its column in their order")
            }
            Self::Uuids => changed(
                !Uuid::try_parse(text).is_ok_and(|uuid| uuid.to_string() == text),
                "is no UUID in the form that its column gives back (lower case, with hyphens)",
            ),
            Self::Addresses => {
                let canonical = |text: &str| {
                    let four = text.parse::<Ipv4Addr>().ok().map(|address| address.to_string());
                    four.or_else(|| text.parse::<Ipv6Addr>().ok().map(|address| address.to_string()))
                };
                changed(
                    canonical(text).as_deref() != Some(text),
                    "is no address in the form that its column gives back",
                )
            }
            Self::Fills(_) | Self::Rounds(_) => Ok(()),
        }
    }
}

/// What stands behind so many characters; `None` when nothing does.
fn beyond(text: &str, characters: usize) -> Option<&str> {
    text.char_indices().nth(characters).and_then(|(at, _)| text.get(at..))
}

/// Whether SQLite takes a text for a number.
fn is_number(text: &str) -> bool {
    let bare = text.trim_matches(|letter: char| letter.is_ascii_whitespace() || letter == '\u{b}');
    bare.bytes().any(|byte| byte.is_ascii_digit()) && bare.parse::<f64>().is_ok()
}

fn integer(value: &Value) -> Option<i128> {
    Some(match value {
        Value::TinyInt(number) => (*number)?.into(),
        Value::SmallInt(number) => (*number)?.into(),
        Value::Int(number) => (*number)?.into(),
        Value::BigInt(number) => (*number)?.into(),
        Value::TinyUnsigned(number) => (*number)?.into(),
        Value::SmallUnsigned(number) => (*number)?.into(),
        Value::Unsigned(number) => (*number)?.into(),
        Value::BigUnsigned(number) => (*number)?.into(),
        _ => return None,
    })
}

/// Integers that a single and a double precision number keep apart.
const SINGLE: i128 = 1 << 24;
const DOUBLE: i128 = 1 << 53;

/// Asks the database how it keeps the values of a table's columns, and notes it in each mapped one.
pub(crate) async fn look(pool: &Pool, table: &mut Table) -> Result<(), SinkError> {
    let backend = pool.backend();
    let mut found = match backend {
        DbBackend::Postgres => on_postgres(pool, table).await?,
        DbBackend::MySql => on_mysql(pool, table).await?,
        _ => on_sqlite(pool, table).await?,
    };
    for column in &mut table.columns {
        let mut kept = found.remove(&fold(backend, &column.name)).unwrap_or_default();
        if column.casts.is_some() {
            // What comes out of a cast of the program's own is its own to know.
            kept = Kept::default();
        }
        if !is_text(column) {
            (kept.cast, kept.compares) = (None, None);
        }
        kept.changes.retain(|change| change.concerns(column));
        column.kept = kept;
    }
    Ok(())
}

type Found = HashMap<String, Kept>;

fn text(row: &QueryResult, name: &str) -> Result<String, DbErr> {
    row.try_get_by(name)
}

fn optional(row: &QueryResult, name: &str) -> Result<Option<String>, DbErr> {
    row.try_get_by(name)
}

async fn on_postgres(pool: &Pool, table: &Table) -> Result<Found, SinkError> {
    // Of a domain, what is below it. A unique index may have a collation of its own.
    let query = "SELECT a.attname::text AS c, b.typname::text AS t, (t.typtype = 'd') AS d, b.typcategory::text AS g, \
                 quote_ident(n.nspname) || '.' || quote_ident(b.typname) AS q, \
                 (CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE e.typmod END)::int4 AS m, \
                 COALESCE(CASE WHEN NOT l.collisdeterministic THEN l.collname::text END, \
                 (SELECT x.collname::text FROM pg_index i \
                 CROSS JOIN LATERAL UNNEST(i.indkey::int2[], i.indcollation::oid[]) AS p(attnum, coll) \
                 JOIN pg_collation x ON x.oid = p.coll WHERE i.indrelid = a.attrelid AND i.indisunique \
                 AND p.attnum = a.attnum AND NOT x.collisdeterministic LIMIT 1)) AS l \
                 FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid CROSS JOIN LATERAL ( \
                 WITH RECURSIVE below(oid, next, typmod) AS ( \
                 SELECT t.oid, t.typbasetype, t.typtypmod UNION ALL \
                 SELECT p.oid, p.typbasetype, CASE WHEN below.typmod >= 0 THEN below.typmod ELSE p.typtypmod END \
                 FROM below JOIN pg_type p ON p.oid = below.next) \
                 SELECT oid, typmod FROM below WHERE next = 0) AS e \
                 JOIN pg_type b ON b.oid = e.oid JOIN pg_namespace n ON n.oid = b.typnamespace \
                 LEFT JOIN pg_collation l ON l.oid = a.attcollation \
                 WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";
    let columns = ask(pool, query, vec![Value::from(postgres::table(table))], |row| {
        let kind = text(row, "t")?;
        let is_domain: bool = row.try_get_by("d")?;
        let typmod: i32 = row.try_get_by("m")?;
        let collation = optional(row, "l")?.map(|name| format!("collation `{name}`"));
        // The width of a `varchar` and of a `char`, and four.
        let width = usize::try_from(typmod).ok().and_then(|typmod| typmod.checked_sub(4));
        let texts = text(row, "g")? == "S";
        let own = texts && (is_domain || !matches!(&*kind, "text" | "varchar" | "name"));
        let changes = match &*kind {
            "bpchar" => vec![Change::Trims],
            "varchar" => width.map(Change::CutsSpaces).into_iter().collect(),
            "name" => vec![Change::CutsBytes(63)],
            "float4" => vec![Change::Rounds(SINGLE)],
            "float8" => vec![Change::Rounds(DOUBLE)],
            _ => Vec::new(),
        };
        let kept = Kept {
            cast: if own { Some(text(row, "q")?) } else { None },
            compares: if kind == "citext" { Some("type `citext`".to_owned()) } else { collation },
            changes,
        };
        Ok((text(row, "c")?, kept))
    });
    Ok(columns.await?.into_iter().collect())
}

async fn on_mysql(pool: &Pool, table: &Table) -> Result<Found, SinkError> {
    let query = "SELECT CAST(column_name AS CHAR) AS c, CAST(data_type AS CHAR) AS t, CAST(column_type AS CHAR) AS y, \
                 CAST(collation_name AS CHAR) AS l, CAST(character_maximum_length AS SIGNED) AS n \
                 FROM information_schema.columns \
                 WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?";
    let name = vec![Value::from(table.schema.as_deref()), Value::from(&*table.name)];
    let columns = ask(pool, query, name, |row| {
        let kind = text(row, "t")?.to_lowercase();
        let collation = optional(row, "l")?;
        let most = row.try_get_by::<Option<i64>, _>("n")?.and_then(|most| usize::try_from(most).ok());
        let mut changes = Vec::new();
        match &*kind {
            "char" => changes.push(Change::Trims),
            "varchar" => changes.extend(most.map(Change::CutsSpaces)),
            "binary" => changes.extend(most.map(Change::Fills)),
            "enum" => changes.push(Change::Chooses(members(&text(row, "y")?))),
            "set" => changes.push(Change::Combines(members(&text(row, "y")?))),
            "uuid" => changes.push(Change::Uuids),
            "inet4" | "inet6" => changes.push(Change::Addresses),
            "float" => changes.push(Change::Rounds(SINGLE)),
            "double" => changes.push(Change::Rounds(DOUBLE)),
            _ => {}
        }
        let compares = collation.filter(|name| !is_exact(name)).map(|name| format!("collation `{name}`"));
        Ok((text(row, "c")?.to_lowercase(), Kept { cast: None, compares, changes }))
    });
    Ok(columns.await?.into_iter().collect())
}

/// Whether a collation of MySQL or MariaDB takes only equal bytes for equal. Most that end in `_bin` ignore spaces at the end.
fn is_exact(collation: &str) -> bool {
    collation == "binary" || collation.ends_with("_nopad_bin") || collation.ends_with("_0900_bin")
}

/// The values in `enum('a','it''s')`.
pub(crate) fn members(column_type: &str) -> Vec<String> {
    let mut members = Vec::new();
    let mut rest = column_type;
    while let Some((_, quoted)) = rest.split_once('\'') {
        let mut member = String::new();
        let mut letters = quoted.char_indices().peekable();
        let mut end = quoted.len();
        while let Some((at, letter)) = letters.next() {
            if letter != '\'' {
                member.push(letter);
            } else if letters.next_if(|(_, next)| *next == '\'').is_some() {
                member.push('\'');
            } else {
                end = at + 1;
                break;
            }
        }
        members.push(member);
        rest = quoted.get(end..).unwrap_or_default();
    }
    members
}

async fn on_sqlite(pool: &Pool, table: &Table) -> Result<Found, SinkError> {
    let schema = table.schema.as_deref().unwrap_or("main");
    let name = || vec![Value::from(&*table.name), Value::from(schema)];
    let query = "SELECT name AS c, type AS t FROM pragma_table_xinfo(?, ?)";
    let columns = ask(pool, query, name(), |row| {
        let changes = numbers(&text(row, "t")?.to_uppercase());
        Ok((text(row, "c")?.to_lowercase(), Kept { changes, ..Kept::default() }))
    });
    let mut columns: Found = columns.await?.into_iter().collect();
    let query = "SELECT x.name AS c, x.coll AS l FROM pragma_index_list(?, ?) l, pragma_index_xinfo(l.name) x \
                 WHERE l.\"unique\" = 1 AND x.key = 1 AND x.name IS NOT NULL AND UPPER(x.coll) <> 'BINARY'";
    for (column, collation) in ask(pool, query, name(), |row| Ok((text(row, "c")?, text(row, "l")?))).await? {
        if let Some(kept) = columns.get_mut(&column.to_lowercase()) {
            kept.compares = Some(format!("collation `{collation}`"));
        }
    }
    Ok(columns)
}

/// What SQLite's affinity of a declared type changes, by the rules in its documentation.
fn numbers(declared: &str) -> Vec<Change> {
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if has(&["INT"]) {
        vec![Change::Numbers]
    } else if has(&["CHAR", "CLOB", "TEXT", "BLOB"]) || declared.is_empty() {
        Vec::new()
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        vec![Change::Numbers, Change::Rounds(DOUBLE)]
    } else {
        vec![Change::Numbers]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps(change: Change, text: &str) -> bool {
        Kept { changes: vec![change], ..Kept::default() }.keeps(&text.into()).is_ok()
    }

    #[test]
    fn spaces_at_the_end_are_part_of_a_key_only_where_they_are_kept() {
        for (text, trimmed, cut) in [
            ("", true, true),
            ("abc", true, true),
            ("ab ", false, true),
            ("abc ", false, false),
            ("äöü  ", false, false),
            ("abc\t", true, false),
            ("abcd ", false, true),
            (" ab", true, true),
            ("a\t", true, true),
        ] {
            assert_eq!(keeps(Change::Trims, text), trimmed, "{text:?}");
            assert_eq!(keeps(Change::CutsSpaces(3), text), cut, "{text:?}");
        }
        assert!(keeps(Change::CutsBytes(6), "äöü") && !keeps(Change::CutsBytes(6), "äöüe"));
    }

    #[test]
    fn what_looks_like_a_number_is_known_as_sqlite_does() {
        for text in ["007", "7", "1e3", " 5 ", ".5", "5.", "+5", "-0", "9223372036854775808", "1e400", "\u{b}5\n"] {
            assert!(!keeps(Change::Numbers, text), "{text:?}");
        }
        for text in ["", " ", "0x10", "inf", "nan", "1_0", "1e", "5 x", "\u{a0}5", "a5", "."] {
            assert!(keeps(Change::Numbers, text), "{text:?}");
        }
    }

    #[test]
    fn one_spelling_of_a_uuid_and_of_an_address() {
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        assert!(keeps(Change::Uuids, uuid));
        assert!(!keeps(Change::Uuids, &uuid.to_uppercase()) && !keeps(Change::Uuids, &uuid.replace('-', "")));
        assert!(keeps(Change::Addresses, "::1") && keeps(Change::Addresses, "10.0.0.1"));
        assert!(!keeps(Change::Addresses, "0:0::1") && !keeps(Change::Addresses, "::A"));
    }

    #[test]
    fn values_of_an_enumeration() {
        assert_eq!(members("enum('a','it''s','','b,c')"), ["a", "it's", "", "b,c"]);
        let set = |text| keeps(Change::Combines(members("set('a','B','c')")), text);
        assert!(set("") && set("a") && set("a,c") && set("a,B,c"));
        assert!(!set("A") && !set("c,a") && !set("a,a") && !set("1") && !set("a,") && !set("a, B"));
        assert!(
            keeps(Change::Chooses(members("enum('a')")), "a") && !keeps(Change::Chooses(members("enum('a')")), "A")
        );
    }

    #[test]
    fn bytes_that_are_filled_up_and_integers_that_are_rounded() {
        let of = |change| Kept { changes: vec![change], ..Kept::default() };
        assert!(of(Change::Fills(3)).keeps(&vec![1_u8, 2, 3].into()).is_ok());
        assert!(of(Change::Fills(3)).keeps(&vec![1_u8, 2].into()).is_err());
        assert!(of(Change::Rounds(SINGLE)).keeps(&16_777_216_i64.into()).is_ok());
        assert!(of(Change::Rounds(SINGLE)).keeps(&(-16_777_217_i64).into()).is_err());
    }

    #[test]
    fn affinities() {
        for (declared, changed) in [("TEXT", 0), ("VARCHAR(9)", 0), ("", 0), ("BLOB", 0), ("STRING", 1), ("UUID", 1)] {
            assert_eq!(numbers(declared).len(), changed, "{declared}");
        }
        assert_eq!(numbers("CHARINT"), [Change::Numbers]);
    }

    #[test]
    fn collations_that_are_exact() {
        assert!(is_exact("utf8mb4_nopad_bin") && is_exact("utf8mb4_0900_bin"));
        assert!(!is_exact("utf8mb4_bin") && !is_exact("utf8mb4_general_ci") && !is_exact("utf8mb4_nopad_ci"));
    }
}
