//! Names of fields: those that a struct knows, and those that a payload has.

use std::cell::Cell;
use std::fmt;

use serde::de::value::Error as Stop;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::entity::codec::Format;

/// The names by which serde finds the fields of `T` in a payload, aliases included, as serde itself says: what
/// `rename_all`, `rename`, `alias`, `from` and the like make of them. `None` where they cannot be told: a struct with
/// `#[serde(flatten)]`, or one that deserializes itself.
///
/// ```
/// # use serde::Deserialize;
/// #[derive(Deserialize)]
/// #[serde(rename_all = "camelCase")]
/// struct Post { post_id: u64, #[serde(alias = "headline")] title: String }
///
/// let fields = wb_core::codec::fields::<Post>().unwrap();
/// assert!(["postId", "title", "headline"].iter().all(|name| fields.contains(name)));
/// ```
#[must_use]
pub fn fields<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let asked = Cell::new(None);
    // It always fails: nothing is deserialized. The struct's own code runs, and may do what it likes.
    let probe = || T::deserialize(Probe(&asked)).is_ok();
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(probe));
    asked.get()
}

/// A deserializer that hears what it is asked for, and has nothing.
struct Probe<'a>(&'a Cell<Option<&'static [&'static str]>>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        self.0.set(Some(fields));
        Err(Stop::custom("a probe"))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop::custom("a probe"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

/// Whether `wanted` says yes to the name of a top-level field of a payload. A payload that is no map of names has none.
pub(crate) fn any_field(format: Format, payload: &[u8], wanted: impl Fn(&str) -> bool) -> bool {
    let mut found = false;
    let names = Names { wanted: &wanted, found: &mut found };
    // What comes after the first hit is not read, and what is no payload has no fields: the result says nothing.
    let _ = match format {
        Format::Json => serde_json::Deserializer::from_slice(payload).deserialize_map(names).is_ok(),
        Format::MessagePack => rmp_serde::Deserializer::from_read_ref(payload).deserialize_map(names).is_ok(),
    };
    found
}

/// Looks at the names of a map until one is wanted.
struct Names<'a, F> {
    wanted: &'a F,
    found: &'a mut bool,
}

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Names<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of named fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(hit) = map.next_key_seed(Name(self.wanted))? {
            if hit {
                *self.found = true;
                break;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// One name, judged where it stands.
struct Name<'a, F>(&'a F);

impl<'de, F: Fn(&str) -> bool> DeserializeSeed<'de> for Name<'_, F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F: Fn(&str) -> bool> Visitor<'_> for Name<'_, F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok((self.0)(name))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::entity::codec::encode;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Plain {
        some_id: u64,
        #[serde(rename = "type", alias = "kind", alias = "sort")]
        kind_of: Option<String>,
        #[serde(default)]
        list: Vec<u8>,
    }

    #[derive(Serialize, Deserialize)]
    struct Flat {
        id: u64,
        #[serde(flatten)]
        rest: std::collections::BTreeMap<String, u64>,
    }

    #[derive(Deserialize)]
    #[serde(from = "Plain")]
    struct Other;

    impl From<Plain> for Other {
        fn from(_: Plain) -> Self {
            Self
        }
    }

    #[test]
    fn names_are_those_that_serde_takes() {
        let sorted = |fields: Option<&'static [&'static str]>| {
            let mut fields = fields.expect("a struct has fields").to_vec();
            fields.sort_unstable();
            fields
        };
        assert_eq!(sorted(fields::<Plain>()), ["kind", "list", "someId", "sort", "type"]);
        assert_eq!(sorted(fields::<Other>()), sorted(fields::<Plain>()), "by another struct");
        assert_eq!(fields::<Flat>(), None);
        assert_eq!(fields::<u64>(), None);
    }

    #[test]
    fn fields_of_payloads_are_found() {
        let plain = Plain { some_id: 1, kind_of: Some("list".into()), list: vec![1, 2] };
        for format in [Format::Json, Format::MessagePack] {
            let payload = encode(format, &plain).expect("it encodes");
            let has = |name: &str| any_field(format, &payload, |found| found == name);
            assert!(has("someId") && has("type") && has("list"), "{format}");
            assert!(!has("kind") && !has("some_id") && !has(""), "{format}");
            assert!(!any_field(format, b"", |_| true) && !any_field(format, b"[1]", |_| true), "{format}");
        }
        assert!(any_field(Format::Json, br#"{"a\u0062": {"c": 1}}"#, |name| name == "ab"), "escaped");
        assert!(!any_field(Format::Json, br#"{"ab": {"c": 1}}"#, |name| name == "c"), "not at the top");
    }
}
