//! Keys, names, formats and payloads.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use write_behind::{Entity, Format, Id, WriteBehind};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "note")]
struct Note {
    #[wb(key)]
    id: u64,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "acme.line-item_2", format = "msgpack")]
struct LineItem {
    price: f64,
    #[wb(key)]
    order: Uuid,
    comment: Option<String>,
    #[wb(key)]
    line: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "six")]
struct Six {
    #[wb(key)]
    a: String,
    #[wb(key)]
    b: i8,
    #[wb(key)]
    c: Vec<u8>,
    #[wb(key)]
    d: bool,
    #[wb(key)]
    e: u128,
    #[wb(key)]
    f: Uuid,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "generic")]
struct Generic<K, T: Clone, const N: usize>
where
    T: PartialEq,
{
    #[wb(key)]
    key: K,
    value: T,
}

#[test]
fn a_single_key_is_the_field_itself() {
    let note = Note { id: 7, text: "hello".into() };
    assert_eq!(Note::NAME, "note");
    assert_eq!(Note::FORMAT, Format::Json);
    assert_eq!(note.key(), 7);
    assert_eq!(note.encode().unwrap(), br#"{"id":7,"text":"hello"}"#);
    assert_eq!(Note::decode(&note.encode().unwrap()).unwrap(), note);
    assert!(Note::decode(b"{}").is_err());
}

#[test]
fn a_composite_key_is_a_tuple_in_declaration_order() {
    let item = LineItem { price: 9.5, order: Uuid::nil(), comment: None, line: 3 };
    let key: (Uuid, i32) = item.key();
    assert_eq!(key, (Uuid::nil(), 3));
    assert_eq!(Id::of(&key).unwrap().to_string(), "00000000-0000-0000-0000-000000000000:3");
    assert_eq!(LineItem::NAME, "acme.line-item_2");
    assert_eq!(LineItem::FORMAT, Format::MessagePack);
    assert_eq!(LineItem::decode(&item.encode().unwrap()).unwrap(), item);
}

#[test]
fn a_key_has_up_to_six_parts() {
    let six = Six { a: "x:y".into(), b: -1, c: vec![0, 255], d: true, e: u128::MAX, f: Uuid::max() };
    let id = Id::of(&six.key()).unwrap();
    assert_eq!(id.parse::<<Six as Entity>::Key>().unwrap(), six.key());
}

#[test]
fn a_generic_struct_is_an_entity_for_what_its_fields_allow() {
    let generic = Generic::<_, _, 3> { key: "k".to_owned(), value: Some(1) };
    assert_eq!(generic.key(), "k");
    assert_eq!(Generic::decode(&generic.encode().unwrap()).unwrap(), generic);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "sparse")]
#[serde(rename_all = "camelCase")]
struct Sparse {
    #[wb(key)]
    id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_seen: Option<u64>,
    #[serde(rename = "labels", default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    text: Option<String>,
}

#[test]
fn fields_that_serde_may_leave_out_are_known() {
    assert_eq!(<Sparse as Entity>::OMITS, ["lastSeen", "labels"]);
    assert_eq!(<Note as Entity>::OMITS, [""; 0]);
    let sparse = Sparse { id: 1, last_seen: None, tags: Vec::new(), text: None };
    assert_eq!(sparse.encode().unwrap(), br#"{"id":1,"text":null}"#);
}
