//! `#[derive(WriteBehind)]`, which makes a struct an entity. Use it through the `write-behind` crate.
//!
//! The reference of its attributes is on [`WriteBehind`].

mod ast;
mod attr;
mod case;
mod change;
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
/// | `merge` | documents are replaced | fields that others keep in the document stay (below) |
/// | `patch = "PostChanges"` | `PostPatch` for `Post` | name of the patch type (below) |
/// | `native_bson` | serde's forms | every field whose type has a native BSON form is stored in it (below) |
/// | `format = "json"` | `"json"` | how payloads are written: `"json"`, or `"msgpack"` (MessagePack with named fields) |
/// | `client_keys` | the database must not make keys | the application makes the keys, although the database could (below) |
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
/// | `insert_only` | written when the row is inserted, left alone when it is updated; in documents with `merge` only | `key`, `skip`, `append` |
/// | `counter = "LIKES"` | name of the field's counter (below); makes one for a type that is no plain number | `key`, `skip`, `insert_only`, `version`, `append` |
/// | `version` | number of the state, which never goes down (below) | `key`, `skip`, `json`, `insert_only` |
/// | `belongs_to = "Post"` | the field is a foreign key to the key of this entity (below) | `json`, `skip` |
/// | `skip` | in the buffer, but not stored; `Default::default()` when loaded from the sink | all others |
/// | `native_bson` | stored in BSON's own type (below) | `skip` |
/// | `partition_by` | its value decides the partition, instead of the whole key (below) | |
///
/// **Keys.** One field, or up to six; the key of several is a tuple of them in declaration order. A key is an integer,
/// `bool`, `String`, `Vec<u8>`, `Uuid`, or a newtype of yours that implements `KeyPart`.
///
/// **Columns.** A field's type is any that could be a field of a SeaORM `Model`, `DeriveValueType` newtypes and
/// `DeriveActiveEnum` enums included. Column type and nullability are the type's own: `Option<T>` is nullable under
/// whatever alias. A value that the column of the live table would change is refused by the write; a time is cut to the fraction of
/// a second that the column keeps, in the buffer as in the row. A `json` field that serde writes as null is NULL, and its column is nullable if serde reads
/// the type from null.
///
/// **Version.** At most one field, an integer of up to 64 bits or a newtype of yours that implements `VersionField` and is
/// stored as the same integer. In the sink, an older version never overwrites a newer one, whoever wrote that; the same
/// version does. What is left out that way counts as flushed and leaves no copy, so that readers load the newer state. A
/// delete carries no version and always deletes. Raise it with every change, also over a delete: a delete and the write
/// after it may reach the sink as one, and then it is the deleted row that is compared.
///
/// **Keys that the database makes.** A write is answered before the database has seen it, so it cannot wait for a key from
/// there. An entity whose key column is an identity or has a sequence's default (PostgreSQL), is `AUTO_INCREMENT` (MySQL) or
/// `AUTOINCREMENT` (SQLite), or whose `Model` is not `auto_increment = false`, is refused at start. Make keys with
/// `write_behind::ids`, and say `client_keys` where the column cannot be changed.
///
/// **Foreign keys.** `belongs_to` names the entity, by its path, that the field refers to; an `Option` field may refer
/// to nothing, and a field may refer to its own entity (`"Self"`). Rows of this entity are written after those that they
/// refer to, and deleted before them; see `Entity::PARENTS`. Any number of fields, each for a foreign key of its own, may
/// say it; of a foreign key of several columns, one.
///
/// ```rust,ignore
/// #[derive(Serialize, Deserialize, WriteBehind)]
/// #[wb(name = "comment", table = "comments")]
/// pub struct Comment {
///     #[wb(key)]
///     pub id: Uuid,
///     #[wb(belongs_to = "Post")]
///     pub post_id: Uuid,
///     pub text: String,
/// }
/// ```
///
/// # Counters and patches
///
/// **Counters.** Each field of a plain number type (`i8` to `i64`, `u8` to `u64`, `isize`, `usize`, `f32`, `f64`, written as
/// such) has a constant of the type `Counter`, named as the field in capitals and as visible as it:
///
/// ```rust,ignore
/// posts.increment(&id, Post::VIEWS, 1).await?;
/// ```
///
/// Key, version, `insert_only` and `skip` fields have none, nor has what serde loses. `counter = "LIKE_COUNT"` gives the
/// constant another name, where yours has that one already (or a trait's, such as `Entity::NAME` for a field `name`), and
/// makes one for a type of yours that implements `CounterField`, or for an alias of a number.
///
/// **Patches.** Beside the struct stands its patch, as visible as it: a struct of the same fields, each in an `Option`. Not in
/// it are what never changes by a patch (keys, the version, which is raised by itself, and `insert_only` fields) and what
/// serde loses. A struct with nothing left has none.
///
/// ```rust,ignore
/// posts.patch(&id, PostPatch { title: Some("new".into()), editor: Some(None), ..Default::default() }).await?;
/// ```
///
/// It is `Default` (no change), `Patch<Post>`, and where all of its fields are also `Clone`, `Debug` and `PartialEq`. To be
/// applied it needs fields that are `Clone`: what is not is an error where the patch is used, not where the struct is derived.
/// The patch of a generic struct has its parameters, and a field of its own to hold them. If the module has a type of that
/// name already ("the name `PostPatch` is defined multiple times"), choose another with `patch = "..."`. Under SeaORM it is
/// `ModelPatch`.
///
/// A patch can be read by serde, as the body of a request: a field that is absent is left alone, `null` makes an `Option`
/// nothing (`Some(None)`). Fields have the names that serde reads for the entity (`rename`, `rename_all`, `alias`), and its
/// forms (`with`, `deserialize_with`); unknown fields and fields that come twice are errors. A `flatten` field, and a field of
/// a type parameter with a `with`, can be patched in Rust only.
///
/// **Versions.** `update`, `increment` and `patch` raise the `version` by one. A `put` raises nothing: a state whose version is
/// not above that of the state which it replaces is a `CacheError::Conflict`, and is not stored.
///
/// # Columns and fields of others
///
/// Columns that the struct does not have are never written: they keep what others write there, and get their default when a
/// row is inserted. All that it has are written by every flush, also after a patch of one field or an increment: what another
/// program writes into a mapped column is overwritten while the buffer has the record (dirty, or as a clean copy) from before
/// that change. A field that is `None` becomes NULL.
///
/// A column that is `insert_only` keeps the value that the row was inserted with. A state that is put with another one is read as it
/// was put until it is flushed, and as the row has it afterwards, in every process.
///
/// A document is replaced as a whole, so that it is what `replace_one(&t)` would leave: what others added is gone after the
/// next flush, and `insert_only` is written with every state (the engine's start says so in a note). With `merge` each field of
/// the struct is set in the document (`$set`), and unset where it is absent or null (`$unset`); `insert_only` fields are set
/// only when the document is inserted (`$setOnInsert`); everything else in the document stays until the record is deleted.
/// Fields are replaced as a whole, also those that are documents. A struct that denies unknown fields is loaded without those
/// of others. `merge` needs the names of all fields, so it goes with neither serde's `flatten` nor `into`.
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
/// off when it is written, in the buffer as in the document. On the struct, `native_bson` means every field with such a type, but for those that serde writes in a way of
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
