//! Ids of keys: no two keys share one, and each leads back to its key.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use uuid::Uuid;
use wb_core::{EntityKey, Id, KeyError};

/// Texts, many of them made of what the escaping is made of.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[:\\\\a]{0,6}"]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8),
        proptest::collection::vec(prop_oneof![Just(b':'), Just(b'\\'), Just(b'a')], 0..6),
    ]
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn text_of<K: EntityKey>(key: &K) -> Vec<u8> {
    let mut text = Vec::new();
    key.write(&mut text);
    text
}

fn leads_back<K: EntityKey + PartialEq + std::fmt::Debug>(key: &K) -> Result<(), TestCaseError> {
    prop_assert_eq!(&K::read(&text_of(key)).unwrap(), key);
    match Id::of(key) {
        Ok(id) => prop_assert_eq!(&id.parse::<K>().unwrap(), key),
        Err(error) => {
            prop_assert_eq!(error, KeyError::Empty);
            prop_assert!(text_of(key).is_empty());
        }
    }
    Ok(())
}

fn distinct<K: EntityKey + PartialEq + std::fmt::Debug>(one: &K, other: &K) -> Result<(), TestCaseError> {
    prop_assert_eq!(text_of(one) == text_of(other), one == other);
    Ok(())
}

/// A text is nobody's id, or exactly the one that its key is written as.
fn is_canonical<K: EntityKey>(text: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(key) = K::read(text) {
        prop_assert_eq!(text_of(&key), text);
    }
    Ok(())
}

macro_rules! key_types {
    ($($name:ident: $ty:ty = $strategy:expr;)*) => {$(
        mod $name {
            use super::*;

            proptest! {
                #[test]
                fn id_leads_back_to_the_key(key in $strategy) {
                    leads_back::<$ty>(&key)?;
                }

                #[test]
                fn different_keys_have_different_ids(one in $strategy, other in $strategy) {
                    distinct::<$ty>(&one, &other)?;
                }

                #[test]
                fn a_key_has_one_text(
                    text in prop_oneof![bytes(), "[-+0-9a-fA-Ftrue:\\\\]{0,36}".prop_map(String::into_bytes)],
                ) {
                    is_canonical::<$ty>(&text)?;
                }
            }
        }
    )*};
}

key_types! {
    of_i8: i8 = any::<i8>();
    of_i16: i16 = any::<i16>();
    of_i32: i32 = any::<i32>();
    of_i64: i64 = any::<i64>();
    of_i128: i128 = any::<i128>();
    of_isize: isize = any::<isize>();
    of_u8: u8 = any::<u8>();
    of_u16: u16 = any::<u16>();
    of_u32: u32 = any::<u32>();
    of_u64: u64 = any::<u64>();
    of_u128: u128 = any::<u128>();
    of_usize: usize = any::<usize>();
    of_bool: bool = any::<bool>();
    of_text: String = text();
    of_bytes: Vec<u8> = bytes();
    of_uuid: Uuid = uuid();
    of_two_texts: (String, String) = (text(), text());
    of_text_and_bytes: (String, Vec<u8>) = (text(), bytes());
    of_three: (i64, String, bool) = (any::<i64>(), text(), any::<bool>());
    of_three_texts: (String, String, String) = (text(), text(), text());
    of_four: (Vec<u8>, Uuid, u8, String) = (bytes(), uuid(), any::<u8>(), text());
    of_five: (String, i32, String, Vec<u8>, u64) = (text(), any::<i32>(), text(), bytes(), any::<u64>());
    of_six: (String, String, Vec<u8>, bool, i128, Uuid) =
        (text(), text(), bytes(), any::<bool>(), any::<i128>(), uuid());
}

#[test]
fn a_second_spelling_of_a_key_is_refused() {
    for text in ["+7", "007", " 7", "7 ", "", "-0", "0x7"] {
        assert!(<i64 as EntityKey>::read(text.as_bytes()).is_err(), "{text:?}");
    }
    for text in ["67E55044-10B1-426F-9247-BB680E5FE0C8", "67e5504410b1426f9247bb680e5fe0c8", "{67e55044}"] {
        assert!(<Uuid as EntityKey>::read(text.as_bytes()).is_err(), "{text:?}");
    }
    for text in ["a", "a:b:c", "a\\b:c", "a:b\\", "\\a:b"] {
        assert!(<(String, String)>::read(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn only_a_single_text_or_bytes_can_be_empty() {
    assert_eq!(Id::of(&String::new()).unwrap_err(), KeyError::Empty);
    assert_eq!(Id::of(&Vec::<u8>::new()).unwrap_err(), KeyError::Empty);
    assert_eq!(Id::of(&(String::new(), String::new())).unwrap().as_bytes(), b":");
}
