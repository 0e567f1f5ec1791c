//! A value as serde shows it, looked at without storing anything: what a sink's [`check`](crate::Sink::check) of a row is made
//! of. Not for use.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

/// What was seen of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// Bytes of texts and numbers, names of fields included, roughly: never more than BSON or JSON takes.
    pub bytes: usize,
    /// A text, or a key of a map, has a NUL character.
    pub nul: bool,
    /// A key of a map has a NUL character.
    pub nul_in_key: bool,
    /// An integer above [`i64::MAX`].
    pub above_i64: bool,
    /// What not every format has: an integer of 128 bits, a key of a map that is no text, a value that does not serialize.
    pub odd: bool,
    /// A field of the outermost map, or of the outermost struct, is called `_id`.
    pub has_id: bool,
    /// The outermost field in which the first of these was seen.
    pub field: Option<&'static str>,
    /// A number that is none (NaN), or is infinite.
    pub not_finite: bool,
    /// The outermost field in which the first of those was seen.
    pub not_finite_in: Option<&'static str>,
}

impl Seen {
    const fn is_plain(&self) -> bool {
        !(self.nul || self.nul_in_key || self.above_i64 || self.odd)
    }
}

/// Walks through a value, as a format that calls itself human readable or not would. Allocates nothing, unless the value's own
/// `Serialize` does.
#[must_use]
pub fn walk<T: Serialize + ?Sized>(value: &T, human_readable: bool) -> Seen {
    let mut walk = Walk { seen: Seen::default(), human_readable, in_key: false, depth: 0 };
    if value.serialize(&mut walk).is_err() {
        walk.seen.odd = true;
    }
    walk.seen
}

#[derive(Debug)]
struct Walk {
    seen: Seen,
    human_readable: bool,
    in_key: bool,
    depth: usize,
}

impl Walk {
    fn scalar(&mut self, bytes: usize) -> Result<(), fmt::Error> {
        self.seen.odd |= self.in_key;
        self.seen.bytes = self.seen.bytes.saturating_add(bytes);
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> Result<(), fmt::Error> {
        self.seen.has_id |= self.in_key && self.depth == 1 && text == b"_id";
        let nul = memchr::memchr(0, text).is_some();
        self.seen.nul |= nul;
        self.seen.nul_in_key |= nul && self.in_key;
        self.seen.bytes = self.seen.bytes.saturating_add(text.len() + 1);
        Ok(())
    }

    fn nest(&mut self) -> Result<&mut Self, fmt::Error> {
        self.seen.odd |= self.in_key;
        self.in_key = false;
        self.seen.bytes = self.seen.bytes.saturating_add(1);
        self.depth += 1;
        Ok(self)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), fmt::Error> {
        let (plain, finite) = (self.seen.is_plain(), !self.seen.not_finite);
        self.seen.bytes = self.seen.bytes.saturating_add(name.len());
        self.seen.has_id |= self.depth == 1 && name == "_id";
        value.serialize(&mut *self)?;
        if finite && self.depth == 1 && self.seen.not_finite {
            self.seen.not_finite_in = Some(name);
        }
        if plain && self.depth == 1 && !self.seen.is_plain() {
            self.seen.field = Some(name);
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), fmt::Error> {
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }
}

macro_rules! scalars {
    ($($name:ident: $ty:ty = $bytes:literal),* $(,)?) => {$(
        fn $name(self, _: $ty) -> Result<(), fmt::Error> {
            self.scalar($bytes)
        }
    )*};
}

impl<'w> Serializer for &'w mut Walk {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = &'w mut Walk;
    type SerializeTuple = &'w mut Walk;
    type SerializeTupleStruct = &'w mut Walk;
    type SerializeTupleVariant = &'w mut Walk;
    type SerializeMap = &'w mut Walk;
    type SerializeStruct = &'w mut Walk;
    type SerializeStructVariant = &'w mut Walk;

    // One byte at least in either format.
    scalars! {
        serialize_bool: bool = 1,
        serialize_i8: i8 = 1,
        serialize_i16: i16 = 1,
        serialize_i32: i32 = 1,
        serialize_i64: i64 = 1,
        serialize_u8: u8 = 1,
        serialize_u16: u16 = 1,
        serialize_u32: u32 = 1,
    }

    fn serialize_f32(self, number: f32) -> Result<(), fmt::Error> {
        self.seen.not_finite |= !number.is_finite();
        self.scalar(1)
    }

    fn serialize_f64(self, number: f64) -> Result<(), fmt::Error> {
        self.seen.not_finite |= !number.is_finite();
        self.scalar(1)
    }

    fn serialize_u64(self, number: u64) -> Result<(), fmt::Error> {
        self.seen.above_i64 |= i64::try_from(number).is_err();
        self.scalar(1)
    }

    fn serialize_i128(self, _: i128) -> Result<(), fmt::Error> {
        self.seen.odd = true;
        self.scalar(1)
    }

    fn serialize_u128(self, _: u128) -> Result<(), fmt::Error> {
        self.seen.odd = true;
        self.scalar(1)
    }

    fn serialize_char(self, letter: char) -> Result<(), fmt::Error> {
        // Of a key: JSON takes it, BSON does not.
        self.seen.odd |= self.in_key;
        self.text(letter.encode_utf8(&mut [0; 4]).as_bytes())
    }

    fn serialize_str(self, text: &str) -> Result<(), fmt::Error> {
        self.text(text.as_bytes())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), fmt::Error> {
        self.scalar(bytes.len())
    }

    fn serialize_none(self) -> Result<(), fmt::Error> {
        self.scalar(1)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), fmt::Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), fmt::Error> {
        self.scalar(1)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), fmt::Error> {
        self.scalar(1)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), fmt::Error> {
        self.text(variant.as_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), fmt::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), fmt::Error> {
        let walk = self.nest()?;
        value.serialize(&mut *walk)?;
        walk.leave()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<&'w mut Walk, fmt::Error> {
        self.nest()
    }

    fn serialize_tuple(self, _: usize) -> Result<&'w mut Walk, fmt::Error> {
        self.nest()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<&'w mut Walk, fmt::Error> {
        self.nest()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<&'w mut Walk, fmt::Error> {
        self.nest()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<&'w mut Walk, fmt::Error> {
        self.nest()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<&'w mut Walk, fmt::Error> {
        self.nest()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<&'w mut Walk, fmt::Error> {
        self.nest()
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), fmt::Error> {
        // The parts of a text that is written out piece by piece.
        fmt::write(&mut Text(self), format_args!("{value}"))
    }

    fn is_human_readable(&self) -> bool {
        self.human_readable
    }
}

struct Text<'w>(&'w mut Walk);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.text(part.as_bytes())
    }
}

macro_rules! elements {
    ($($trait:ident :: $name:ident),* $(,)?) => {$(
        impl ser::$trait for &mut Walk {
            type Ok = ();
            type Error = fmt::Error;

            fn $name<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), fmt::Error> {
                self.leave()
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

impl ser::SerializeMap for &mut Walk {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), fmt::Error> {
        self.in_key = true;
        key.serialize(&mut **self)?;
        self.in_key = false;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), fmt::Error> {
        self.leave()
    }
}

macro_rules! structs {
    ($($trait:ident),*) => {$(
        impl ser::$trait for &mut Walk {
            type Ok = ();
            type Error = fmt::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), fmt::Error> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), fmt::Error> {
                self.leave()
            }
        }
    )*};
}

structs!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    struct Row {
        id: u64,
        text: String,
        inner: Option<Inner>,
        map: BTreeMap<String, Vec<f64>>,
    }

    #[derive(Serialize)]
    struct Inner {
        number: u64,
    }

    fn row(id: u64, text: &str, number: u64, key: &str) -> Seen {
        let inner = Some(Inner { number });
        let map = BTreeMap::from([(key.to_owned(), vec![1.5])]);
        walk(&Row { id, text: text.to_owned(), inner, map }, true)
    }

    #[test]
    fn what_a_format_may_not_have_is_seen_and_named_by_its_field() {
        let plain = row(i64::MAX as u64, "text", 7, "key");
        assert_eq!(plain, Seen { bytes: plain.bytes, ..Seen::default() });
        assert!(plain.bytes >= "idtextinnermapnumber".len() + "textkey".len(), "{}", plain.bytes);
        let seen = row(u64::MAX, "text", 7, "key");
        assert_eq!((seen.above_i64, seen.field), (true, Some("id")));
        let seen = row(1, "text", u64::MAX, "key");
        assert_eq!((seen.above_i64, seen.field), (true, Some("inner")));
        let seen = row(1, "a\0", 7, "key");
        assert_eq!((seen.nul, seen.nul_in_key, seen.field), (true, false, Some("text")));
        let seen = row(1, "a", 7, "k\0");
        assert_eq!((seen.nul, seen.nul_in_key, seen.field), (true, true, Some("map")));
    }

    #[test]
    fn keys_that_are_no_text_and_wide_integers_are_odd() {
        assert!(walk(&BTreeMap::from([(1_u8, "a")]), true).odd);
        assert!(walk(&BTreeMap::from([(vec![1_u8], "a")]), true).odd);
        assert!(walk(&1_u128, true).odd);
        assert!(walk(&BTreeMap::from([('c', "a")]), true).odd);
        assert!(!walk(&BTreeMap::from([("c", ["a", "b"])]), true).odd);
    }

    #[test]
    fn an_id_is_seen_at_the_top_alone() {
        assert!(walk(&BTreeMap::from([("_id", 1)]), true).has_id);
        assert!(!walk(&BTreeMap::from([("a", "_id")]), true).has_id);
        assert!(!walk(&BTreeMap::from([("a", BTreeMap::from([("_id", 1)]))]), true).has_id);
    }

    #[test]
    fn numbers_that_are_not_finite_are_seen_and_named_by_their_field() {
        #[derive(Serialize)]
        struct Numbers {
            one: Option<f64>,
            more: Vec<f32>,
        }
        let seen = |one, more| {
            let seen = walk(&Numbers { one, more: vec![0.0, more] }, true);
            (seen.not_finite, seen.not_finite_in, seen.odd)
        };
        assert_eq!(seen(Some(f64::MAX), f32::MIN_POSITIVE), (false, None, false));
        assert_eq!(seen(Some(f64::NAN), 1.0), (true, Some("one"), false));
        assert_eq!(seen(None, f32::NEG_INFINITY), (true, Some("more"), false));
        assert!(walk(&BTreeMap::from([("a", f64::INFINITY)]), true).not_finite);
    }

    #[test]
    fn what_is_seen_of_the_size_is_never_more_than_the_json() {
        let map = BTreeMap::from([("key", (1, -1_i64, 2.5, "text", Some(true), None::<u8>))]);
        let json = serde_json::to_string(&map).unwrap_or_default();
        assert!(walk(&map, true).bytes <= json.len());
    }
}
