//! Keeps what a struct does not know when a payload is changed through it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::entity::codec::{Format, any_field, encode};

/// `new`, with those top-level fields of `old` that are neither in `known` nor in `new`, exactly as they stand there.
///
/// For changes by a program whose struct is older than the record: `old` is the payload that was read, `new` what the
/// changed value encodes to, and `known` what [`fields`](crate::entity::codec::fields) says of the struct. When one of the two is no map
/// of named fields, or nothing is to be kept, `new` is returned as it is. Fields of nested structs are not looked at.
///
/// ```
/// use wb_core::Format;
/// use wb_core::codec::merge_unknown;
///
/// let old = br#"{"id":1,"title":"a","newer":[1.50]}"#;
/// let new = br#"{"id":1,"title":"b"}"#.to_vec();
/// let merged = merge_unknown(Format::Json, old, new, &["id", "title"]);
/// assert_eq!(merged, br#"{"id":1,"title":"b","newer":[1.50]}"#);
/// ```
#[must_use]
pub fn merge_unknown(format: Format, old: &[u8], new: Vec<u8>, known: &[&str]) -> Vec<u8> {
    let is_unknown = |name: &str| !known.contains(&name);
    // The common case: nothing to keep, in one pass.
    if !any_field(format, old, is_unknown) {
        return new;
    }
    let Some(fields) = fields_of(format, old) else { return new };
    let is_kept = |name: &str| is_unknown(name) && !any_field(format, &new, |there| there == name);
    let mut kept: Vec<&Field<'_>> = Vec::new();
    for field in fields.iter().filter(|field| is_kept(&field.name)) {
        // Of a name that stands there twice the last one counts, as for most decoders.
        kept.retain(|before| before.name != field.name);
        kept.push(field);
    }
    let merged = match format {
        Format::Json => with_json(&new, &kept),
        Format::MessagePack => with_message_pack(&new, &kept),
    };
    merged.unwrap_or(new)
}

/// `payload` with a null for each of these top-level fields that it does not have; `None` when it has them all, or cannot take one.
pub(crate) fn with_nulls(format: Format, payload: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let nulls: BTreeMap<&str, ()> = names.iter().map(|&name| (name, ())).collect();
    let nulls = encode(format, &nulls).ok()?;
    let full = merge_unknown(format, &nulls, payload.to_vec(), &[]);
    (full != payload).then_some(full)
}

/// A top-level field.
struct Field<'a> {
    name: String,
    /// Name and value as they stand in the payload, with what is between them.
    bytes: &'a [u8],
}

/// The fields of a payload; `None` when it is no map of named fields.
fn fields_of(format: Format, payload: &[u8]) -> Option<Vec<Field<'_>>> {
    match format {
        Format::Json => json_fields(payload),
        Format::MessagePack => message_pack_fields(payload),
    }
}

fn json_fields(payload: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    let mut at = past(payload, 0, b'{')?;
    if past(payload, at, b'}').is_some() {
        return Some(fields);
    }
    loop {
        let (name, Range { start, end }) = json_value::<String>(payload, at)?;
        let (_, value) = json_value::<IgnoredAny>(payload, past(payload, end, b':')?)?;
        fields.push(Field { name, bytes: payload.get(start..value.end)? });
        match past(payload, value.end, b',') {
            Some(next) => at = next,
            None => return past(payload, value.end, b'}').map(|_| fields),
        }
    }
}

/// Behind this byte, which is the next one that is no space.
fn past(json: &[u8], from: usize, byte: u8) -> Option<usize> {
    let rest = json.get(from..)?;
    let at = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
    (rest.get(at) == Some(&byte)).then_some(from + at + 1)
}

/// The value that begins here or after spaces, and where it stands.
fn json_value<'a, T: Deserialize<'a>>(json: &'a [u8], from: usize) -> Option<(T, Range<usize>)> {
    let rest = json.get(from..)?;
    let start = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter();
    let value = values.next()?.ok()?;
    Some((value, from + start..from + values.byte_offset()))
}

fn message_pack_fields(payload: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut rest = payload;
    let count = rmp::decode::read_map_len(&mut rest).ok()?;
    let mut fields = Vec::new();
    for _ in 0..count {
        let start = rest;
        let name = String::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).ok()?;
        IgnoredAny::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).ok()?;
        fields.push(Field { name, bytes: start.get(..start.len() - rest.len())? });
    }
    Some(fields)
}

fn with_json(new: &[u8], kept: &[&Field<'_>]) -> Option<Vec<u8>> {
    let is_empty = past(new, past(new, 0, b'{')?, b'}').is_some();
    let mut merged = new.trim_ascii_end().strip_suffix(b"}")?.trim_ascii_end().to_vec();
    for (place, field) in kept.iter().enumerate() {
        if place > 0 || !is_empty {
            merged.push(b',');
        }
        merged.extend_from_slice(field.bytes);
    }
    merged.push(b'}');
    Some(merged)
}

fn with_message_pack(new: &[u8], kept: &[&Field<'_>]) -> Option<Vec<u8>> {
    let mut rest = new;
    let count = rmp::decode::read_map_len(&mut rest).ok()?;
    let count = count.checked_add(u32::try_from(kept.len()).ok()?)?;
    let mut merged = Vec::with_capacity(new.len() + 4 + kept.iter().map(|field| field.bytes.len()).sum::<usize>());
    rmp::encode::write_map_len(&mut merged, count).ok()?;
    merged.extend_from_slice(rest);
    for field in kept {
        merged.extend_from_slice(field.bytes);
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::entity::codec::{decode, encode};

    const FORMATS: [Format; 2] = [Format::Json, Format::MessagePack];

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        id: u64,
        title: String,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        id: u64,
        tags: Vec<String>,
        title: String,
        nested: Option<BTreeMap<String, Vec<f64>>>,
        large: u64,
    }

    fn fields() -> Vec<&'static str> {
        crate::entity::codec::fields::<Old>().expect("it is a struct").to_vec()
    }

    /// A change by a program of the old struct.
    fn change(format: Format, record: &New) -> New {
        let payload = encode(format, record).expect("it encodes");
        let mut seen: Old = decode(format, &payload).expect("the old struct reads it");
        seen.title.push('!');
        let changed = encode(format, &seen).expect("it encodes");
        decode(format, &merge_unknown(format, &payload, changed, &fields())).expect("the new struct reads it")
    }

    proptest! {
        #[test]
        fn a_change_by_the_old_struct_keeps_what_it_does_not_know(
            id: u64,
            tags: Vec<String>,
            title: String,
            numbers in proptest::collection::vec(-1e9..1e9_f64, 0..3),
            nested: bool,
            large: u64,
        ) {
            let nested = nested.then(|| BTreeMap::from([("ö\"\\".to_owned(), numbers)]));
            let record = New { id, tags, title, nested, large };
            for format in FORMATS {
                let expected = New { title: format!("{}!", record.title), ..record.clone() };
                prop_assert_eq!(change(format, &record), expected);
            }
        }

        #[test]
        fn nothing_breaks_it(old: Vec<u8>, new: Vec<u8>) {
            for format in FORMATS {
                let _ = merge_unknown(format, &old, new.clone(), &["id"]);
            }
        }
    }

    #[test]
    fn values_stay_as_they_are_written() {
        let merge = |old: &str, new: &str| {
            let merged = merge_unknown(Format::Json, old.as_bytes(), new.as_bytes().to_vec(), &["id"]);
            String::from_utf8(merged).expect("it is text")
        };
        // Numbers that no type here holds.
        let old = "{ \"id\" : 1 , \"n\u{f6}\" : 12345678901234567890123.50 ,\n\"x\":[{\"id\":{}}, true] }";
        assert_eq!(
            merge(old, "{\"id\":2}"),
            "{\"id\":2,\"n\u{f6}\" : 12345678901234567890123.50,\"x\":[{\"id\":{}}, true]}"
        );
        assert_eq!(merge(r#"{"a":1,"b":2,"a":3}"#, "{}"), r#"{"b":2,"a":3}"#);
        assert_eq!(merge(r#"{"a":1,"b":true}"#, r#"{"id":1,"a":2} "#), r#"{"id":1,"a":2,"b":true}"#, "new ones win");
        for (old, new) in [(r#"{"id":1}"#, "{}"), ("[1]", "{}"), (r#"{"a":1"#, "{}"), (r#"{"a":1}"#, "[1]"), ("", "{}")]
        {
            assert_eq!(merge(old, new), new, "{old}");
        }
    }

    #[test]
    fn many_fields_are_kept() {
        let numbers = |from: u32, to: u32| (from..to).map(|n| (format!("field{n}"), n)).collect::<BTreeMap<_, _>>();
        for format in FORMATS {
            let [old, new] = [numbers(0, 20), numbers(10, 25)].map(|map| encode(format, &map).expect("it encodes"));
            let merged = merge_unknown(format, &old, new, &["field0", "field1"]);
            assert_eq!(
                decode::<BTreeMap<String, u32>>(format, &merged).expect("it decodes"),
                numbers(2, 25),
                "{format}"
            );
        }
    }

    #[test]
    fn what_is_left_out_is_said() {
        #[derive(Serialize)]
        struct Omits {
            id: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            rank: Option<u32>,
        }
        for format in FORMATS {
            let of = |rank| encode(format, &Omits { id: 1, rank }).expect("it encodes");
            let full = with_nulls(format, &of(None), &["rank"]).expect("it is not said");
            let read: BTreeMap<String, Option<u64>> = decode(format, &full).expect("a map");
            assert_eq!(read, BTreeMap::from([("id".to_owned(), Some(1)), ("rank".to_owned(), None)]), "{format}");
            assert_eq!(with_nulls(format, &of(Some(7)), &["rank"]), None, "{format}");
            assert_eq!(with_nulls(format, &of(None), &[]), None, "{format}");
            assert_eq!(with_nulls(format, b"?", &["rank"]), None, "{format}");
        }
    }
}
