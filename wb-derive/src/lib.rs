//! `#[derive(WriteBehind)]`, which makes a struct an entity. Use it through the `write-behind` crate.
//!
//! The reference of its attributes is on [`WriteBehind`].

mod ast;
mod attr;
mod case;
mod check;
mod ctxt;
mod expand;
mod fallback;
mod foreign;
mod plan;
mod suggest;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct an entity: its values can be written behind.
///
/// ```rust,ignore
/// use chrono::{DateTime, Utc};
/// use serde::{Deserialize, Serialize};
/// use uuid::Uuid;
/// use write_behind::WriteBehind;
///
/// #[derive(Clone, Debug, Serialize, Deserialize, WriteBehind)]
/// #[wb(name = "post", table = "posts", collection = "posts")]
/// pub struct Post {
///     #[wb(key)]
///     pub id: Uuid,
///     #[wb(rename = "headline")]
///     pub title: String,
///     #[wb(json)]
///     pub tags: Vec<String>,
///     #[wb(insert_only)]
///     pub created_at: DateTime<Utc>,
///     #[wb(version)]
///     pub version: i64,
///     #[wb(skip)]
///     pub rendered: Option<String>,
/// }
/// ```
///
/// The struct has named fields and derives serde's `Serialize` and `Deserialize`: serde writes the payload that waits
/// in the buffer. The derive writes `Entity`; with a `table` (or for a SeaORM `Model`) also `SqlEntity`, and with a
/// `collection` also `MongoEntity`. A mapping is compiled only if the feature of its backend is on, so one struct
/// serves every backend.
///
/// # On the struct
///
/// | word | default | meaning |
/// |---|---|---|
/// | `name = "post"` | required | name in Redis keys, events and errors: ASCII letters, digits, `_`, `-`, `.` |
/// | `table = "posts"` | no SQL mapping | the table |
/// | `schema = "blog"` | the connection's | the table's schema |
/// | `rename_all = "camelCase"` | the fields' names | case of the column names: any of serde's rules (below) |
/// | `collection = "posts"` | no MongoDB mapping | the collection |
/// | `native_bson` | serde's forms | every field whose type has a native BSON form is stored in it (below) |
/// | `format = "json"` | `"json"` | how payloads are written: `"json"`, or `"msgpack"` (MessagePack with named fields) |
/// | `append` | states are replaced | records are only ever added (below) |
/// | `crate = "path"` | `::write_behind` | where the framework is, if it is re-exported |
///
/// The case rules are `lowercase`, `UPPERCASE`, `PascalCase`, `camelCase`, `snake_case`, `SCREAMING_SNAKE_CASE`,
/// `kebab-case` and `SCREAMING-KEBAB-CASE`.
///
/// # On a field
///
/// | word | meaning | not together with |
/// |---|---|---|
/// | `key` | part of the key | `skip`, `json`, `insert_only` |
/// | `rename = "headline"` | name of the column | `skip` |
/// | `json` | stored in a JSON column, through serde | `key`, `skip` |
/// | `insert_only` | column written when the row is inserted, left alone when it is updated | `key`, `skip` |
/// | `version` | number of the state, which never goes down (below) | `key`, `skip`, `json`, `insert_only` |
/// | `skip` | in the buffer, but not stored; `Default::default()` when loaded from the sink | all others |
/// | `native_bson` | stored in BSON's own type (below) | `skip` |
/// | `partition_by` | its value decides the partition, instead of the whole key (below) | |
///
/// **Keys.** One field, or up to six; the key of several is a tuple of them in declaration order. A key is an integer,
/// `bool`, `String`, `Vec<u8>`, `Uuid`, or a newtype of yours that implements `KeyPart`.
///
/// **Columns.** A field's type is any that could be a field of a SeaORM `Model`, `DeriveValueType` newtypes and
/// `DeriveActiveEnum` enums included. Column type and nullability are the type's own: `Option<T>` is nullable under
/// whatever alias. A `json` field that serde writes as null is NULL, and its column is nullable if serde reads
/// the type from null.
///
/// **Version.** At most one field, an integer of up to 64 bits or a newtype of yours that implements `VersionField`. It
/// is for sinks that cannot keep a stale worker out by other means (a MongoDB server without a replica set): there an
/// older version never overwrites a newer one; the same version does. A delete carries no version and always deletes.
/// Raise it with every change; what is stored of a state whose version went down depends on the sink.
///
/// **Append.** `append` on the struct is for records that never change: comments, events, lines of an audit. The derive
/// also writes `AppendOnly`, and the engine gives an `Appender` instead of a `Cache`. Records wait in a list and are
/// inserted in the order in which they were added; a key that the sink has already is ignored, whatever the record says,
/// so no field can be a `version` or a `counter`, and neither `merge` nor `patch` makes sense.
///
/// **Partitions.** A record is in the partition that its key's text decides. `partition_by` on one field makes that
/// field's value decide, so that records with the same value stay together and in order. The field's type is one that
/// could be a key. It must be a part of the key, because a record is looked for by its key; in an `append` struct, whose
/// records nobody looks for, it may be any field.
///
/// ```rust,ignore
/// #[derive(Clone, Debug, Serialize, Deserialize, WriteBehind)]
/// #[wb(name = "comment", table = "comments", collection = "comments", append)]
/// pub struct Comment {
///     #[wb(key)]
///     pub id: Uuid,
///     #[wb(partition_by)]
///     pub post_id: Uuid,
///     pub text: String,
/// }
/// ```
///
/// # serde's attributes
///
/// What waits in the buffer is what serde makes of the value, so serde's attributes hold there. Columns are named by
/// `wb` alone; fields of documents, and the parts of a composite `_id`, have serde's names (`rename`, `rename_all`).
/// A field that serde loses (`skip`, `skip_serializing`, `skip_deserializing`) could only be stored as its default, so
/// it is an error unless it is also `#[wb(skip)]`; a key field must survive in any case.
///
/// # A SeaORM `Model`
///
/// A struct with `#[sea_orm(...)]` on it is a `Model`. Table, schema, columns, types, nullability and key are asked of
/// SeaORM at run time, and nothing is said twice:
///
/// ```rust,ignore
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
/// #[sea_orm(table_name = "accounts", rename_all = "camelCase")]
/// #[wb(name = "account")]
/// pub struct Model {
///     #[sea_orm(primary_key, auto_increment = false)]
///     pub tenant_id: i32,
///     #[sea_orm(primary_key, auto_increment = false)]
///     pub number: i64,
///     #[wb(insert_only)]
///     pub opened_at: DateTimeUtc,
///     #[sea_orm(ignore)]
///     pub cached: Option<String>,
/// }
/// ```
///
/// Instead of `table`, `schema`, `rename_all`, `rename`, `json` and `skip`, use SeaORM's `table_name`, `schema_name`,
/// `rename_all`, `column_name`, `column_type` and `ignore`; `key` is needed only where no field is marked as
/// `primary_key`. Under `#[sea_orm::model]` the derive also lands on `ModelEx`, where it does nothing; to keep it off,
/// write `#[sea_orm(model_attrs(derive(WriteBehind), wb(name = "account")))]`, which allows no `wb` on fields.
/// The key is yours to choose before the row exists: a key that the database generates cannot be written behind.
///
/// # `native_bson`
///
/// By default a document is what the driver's `insert_one` would have stored, so that your own typed reads work.
/// There serde decides, and it knows no dates:
///
/// | type | serde's form | native form |
/// |---|---|---|
/// | `uuid::Uuid` | Binary, subtype 0 | Binary, subtype 4 (UUID) |
/// | `chrono::DateTime<Utc>` | String | Date |
/// | `chrono::NaiveDateTime`, taken as UTC | String | Date |
/// | `Vec<u8>` | Array of numbers | Binary, subtype 0 |
/// | `Option<T>` and `Vec<T>` of these | Null or `T`; Array | the same, of the native forms |
///
/// Choose the native form for range queries, for TTL indexes, and to share the collection with other languages; keep
/// serde's where your own code reads with the driver's typed API. A BSON date counts milliseconds; what is finer is cut
/// off. On the struct, `native_bson` means every field with such a type, but for those that serde writes in a way of
/// their own (`with`, `flatten`, `skip`) and those of a type parameter.
///
/// # Generic structs
///
/// Type and const parameters work; each implementation asks of the field types what it needs of them.
///
/// # Mistakes
///
/// All mistakes of a struct are reported at once, each where it is made. Unknown, repeated and contradicting words are
/// errors, and so are words about a table or a collection that is not named.
#[proc_macro_derive(WriteBehind, attributes(wb))]
pub fn derive_write_behind(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::derive(&input).into()
}
