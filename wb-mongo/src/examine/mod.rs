//! examine: what an operator should know of the server, the fences and the collection.
//!
//! What a user may not look at is a note, not an error: the rights to write are enough for work.

pub(crate) mod definition;

use bson::{Document, doc, rawdoc};
use mongodb::options::Acknowledgment;
use wb_core::{ErrorKind, Finding, Scope, SinkError};

use crate::connect::is_command;
use crate::fence;
use crate::mapping::entity::{FieldRule, MongoEntity};
use crate::sink::MongoSink;
use crate::write::reply::{Reply, documents};
use crate::write::transaction::Transaction;

/// The user may not look at it.
const UNAUTHORIZED: i32 = 13;
/// There is no such collection.
const NAMESPACE_NOT_FOUND: i32 = 26;
/// It is a view.
const COMMAND_NOT_SUPPORTED_ON_VIEW: i32 = 166;

/// Looks at everything.
pub(crate) async fn examine<E: MongoEntity>(sink: &MongoSink, scope: &Scope) -> Result<Vec<Finding>, SinkError> {
    let hello =
        sink.bounded("ask what the server is", async { sink.database().run_command(doc! { "hello": 1 }).await });
    let server = Server::read(&hello.await?);
    let entity = format!("entity `{}`", scope.entity);
    let mut findings = vec![version(sink, &server).await?];
    findings.extend(write_concern(sink, &server));
    if server == Server::Standalone {
        findings.push(no_fencing(E::VERSION, &entity));
    } else {
        findings.extend(fences(sink, scope).await?);
    }
    let insert_only: Vec<_> = E::FIELDS.iter().filter(|field| field.insert_only).map(|field| field.name).collect();
    if !E::MERGE && !insert_only.is_empty() {
        findings.push(replaced(&insert_only, &entity));
    }
    findings.extend(fractions::<E>(&entity));
    let fields: Vec<&str> =
        if E::FLATTENED { Vec::new() } else { E::FIELDS.iter().map(|field| field.name).chain(["_id"]).collect() };
    findings.extend(collection(sink, E::COLLECTION, &entity, &fields).await?);
    Ok(findings)
}

/// Dates of which less is kept than their types have.
fn fractions<E: MongoEntity>(entity: &str) -> Option<Finding> {
    let cut = E::rules().iter().filter_map(|rule| match rule {
        FieldRule::Native { name, digits: Some(_), .. } => Some(format!("`{name}`")),
        _ => None,
    });
    let fields = cut.collect::<Vec<_>>().join(", ");
    (!fields.is_empty()).then(|| {
        let text = format!(
            "{fields} are BSON dates, which keep milliseconds: what is finer is cut off when it is written, in the buffer as \
             in the document"
        );
        Finding::note("time-precision", entity, text)
    })
}

/// What answers to `hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Server {
    Standalone,
    ReplicaSet { name: String, members: usize },
    Mongos,
}

impl Server {
    fn read(hello: &Document) -> Self {
        if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
            return Self::Mongos;
        }
        let Ok(name) = hello.get_str("setName") else { return Self::Standalone };
        let count = |field| hello.get_array(field).map_or(0, Vec::len);
        Self::ReplicaSet { name: name.to_owned(), members: count("hosts") + count("passives") + count("arbiters") }
    }
}

async fn version(sink: &MongoSink, server: &Server) -> Result<Finding, SinkError> {
    let info = command(sink, "ask for the server's version", doc! { "buildInfo": 1 }).await?;
    let version = match &info {
        Answer::Reply(info) => info.get_str("version").unwrap_or("of an unknown version"),
        Answer::Refused | Answer::Absent => "of a version that this user may not see",
    };
    let what = match server {
        Server::Standalone => "a standalone server".to_owned(),
        Server::ReplicaSet { name, members } => format!("replica set `{name}` of {members}"),
        Server::Mongos => "a sharded cluster; the collection must be sharded by `_id`".to_owned(),
    };
    Ok(Finding::note("server", sink.label(), format!("MongoDB {version}, {what}")))
}

/// A write concern by which an acknowledged write can vanish again.
fn write_concern(sink: &MongoSink, server: &Server) -> Option<Finding> {
    let concern = sink.write_concern();
    let warning = |text: String| Some(Finding::warning("write-concern", sink.label(), text));
    let advice = "give the database or the client `w: \"majority\"`, or no write concern";
    if concern.journal == Some(false) {
        return warning(format!(
            "`j: false`: a server that loses its power can lose what was acknowledged, and what was flushed is not \
             kept in the buffer; {advice}"
        ));
    }
    match (&concern.w, server) {
        (Some(Acknowledgment::Majority), _) => None,
        (Some(Acknowledgment::Custom(tags)), _) => Some(Finding::note(
            "write-concern",
            sink.label(),
            format!(
                "`w: \"{tags}\"` is the deployment's own; a failover can roll writes back unless it covers a majority"
            ),
        )),
        (_, Server::Standalone) if concern.journal == Some(true) => None,
        (_, Server::Standalone) => warning(format!(
            "writes are acknowledged before they are in the journal: a server that loses its power can lose the last \
             of them, and what was flushed is not kept in the buffer; {advice}"
        )),
        (Some(Acknowledgment::Nodes(nodes)), Server::ReplicaSet { members, .. })
            if usize::try_from(*nodes).is_ok_and(|nodes| nodes > members / 2) =>
        {
            None
        }
        _ => warning(format!(
            "weaker than a majority: a failover can roll back what was acknowledged, and what was flushed is not kept \
             in the buffer; {advice}"
        )),
    }
}

fn replaced(insert_only: &[&str], entity: &str) -> Finding {
    let fields = insert_only.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Finding::note(
        "insert-only",
        entity,
        format!(
            "documents are replaced as a whole, so {fields} is written with every update although it is `insert_only`; \
             `#[wb(merge)]` on the struct leaves it alone"
        ),
    )
}

fn no_fencing(version: Option<&str>, entity: &str) -> Finding {
    let why = "a standalone server has no transactions, so a batch is not written as a whole and a stale worker cannot \
               be fenced off";
    match version {
        None => Finding::warning(
            "no-fencing",
            entity,
            format!(
                "{why}: that an older state never overwrites a newer one rests on leases alone, and a worker that is \
                 stopped in the middle of a write can break it; use a replica set (one member is enough), or mark a \
                 field with `#[wb(version)]`"
            ),
        ),
        Some(field) => Finding::note(
            "version-guard",
            entity,
            format!(
                "{why}; the version in `{field}` keeps an older state from overwriting a newer one, but not a late \
                 delete from deleting, nor an older state from coming back after a delete; a replica set (one member \
                 is enough) does"
            ),
        ),
    }
}

/// Whether a batch could check its fences: writes one, and takes it back.
async fn fences(sink: &MongoSink, scope: &Scope) -> Result<Option<Finding>, SinkError> {
    let probe = async {
        let mut transaction = Transaction::new(sink, scope).await?;
        transaction.start().await?;
        let statement = rawdoc! {
            "q": { "_id": bson::oid::ObjectId::new() }, "u": { "$inc": { "seq": 1_i64 } }, "upsert": true
        };
        let command = rawdoc! { "update": fence::COLLECTION, "updates": [statement] };
        let reply = transaction.command("write to the fences", command).await?;
        match Reply::read(&reply, fence::COLLECTION).take_common(0) {
            Some(error) => Err(error),
            None => transaction.roll_back().await,
        }
    };
    match probe.await {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
        // It was about to be written, and something else was in the way.
        Err(error) if error.kind() == ErrorKind::Transient => Ok(None),
        Err(error) => Ok(Some(Finding::warning(
            "fences",
            sink.label(),
            format!(
                "`{}` cannot be written in a transaction, so a worker here would flush nothing; allow this user \
                 `find`, `insert` and `update` on it ({})",
                fence::COLLECTION,
                error.chain()
            ),
        ))),
    }
}

async fn collection(sink: &MongoSink, name: &str, entity: &str, fields: &[&str]) -> Result<Vec<Finding>, SinkError> {
    let unseen = |what: &str| {
        let text = format!("this user may not list {what} of collection `{name}`; they were not checked");
        Finding::note("unseen", entity, text)
    };
    let list = doc! { "listCollections": 1, "filter": { "name": name } };
    let mut findings = match command(sink, "list collections", list).await? {
        Answer::Absent => Vec::new(),
        Answer::Refused => vec![unseen("the options")],
        Answer::Reply(reply) => first_batch(&reply).next().map(|found| kind(found, name, entity)).unwrap_or_default(),
    };
    match command(sink, "list indexes", doc! { "listIndexes": name }).await? {
        // A view has none, and a collection that is not there yet.
        Answer::Absent => {}
        Answer::Refused if !findings.is_empty() => {}
        Answer::Refused => findings.push(unseen("the indexes")),
        Answer::Reply(reply) => {
            findings.extend(first_batch(&reply).filter_map(|found| index(found, name, entity, fields)));
        }
    }
    Ok(findings)
}

/// What `listCollections` says of a collection.
fn kind(found: &Document, name: &str, entity: &str) -> Vec<Finding> {
    let none = Document::new();
    let options = found.get_document("options").unwrap_or(&none);
    let fatal = |code, what: &str| Finding::fatal(code, entity, format!("`{name}` is {what}; use another collection"));
    let mut findings = Vec::new();
    match found.get_str("type") {
        Ok("view") => findings.push(fatal("view", "a view, which cannot be written to")),
        Ok("timeseries") => {
            findings.push(fatal("time-series", "a time-series collection, whose documents cannot be replaced"));
        }
        _ => {}
    }
    if options.get_bool("capped").unwrap_or_default() {
        let what = "a capped collection: the server removes the oldest documents by itself, and documents cannot be \
                    deleted in a transaction";
        findings.push(fatal("capped", what));
    }
    if options.get_document("validator").is_ok_and(|validator| !validator.is_empty())
        && !options.get_str("validationAction").is_ok_and(|action| action == "warn")
    {
        let text = format!("collection `{name}` has a validator: records that it refuses become dead letters");
        findings.push(Finding::note("validator", entity, text));
    }
    if options.contains_key("collation") {
        let text = format!(
            "collection `{name}` has a collation, which holds for `_id` too: of two text keys that it takes for equal the second \
             is refused and becomes a dead letter, and deletes look for their documents first; use a collection without one"
        );
        findings.push(Finding::warning("collation", entity, text));
    }
    findings
}

/// What `listIndexes` says of an index.
///
/// `fields`: the names of the entity's fields in documents; none where not all are known.
fn index(found: &Document, collection: &str, entity: &str, fields: &[&str]) -> Option<Finding> {
    let name = found.get_str("name").unwrap_or_default();
    if found.contains_key("expireAfterSeconds") {
        let text = format!("index `{name}` of collection `{collection}` lets documents expire");
        return Some(Finding::note("ttl-index", entity, text));
    }
    let on_id = found.get_document("key").is_ok_and(|key| key.keys().eq(["_id"]));
    let unique = found.get_bool("unique").unwrap_or_default() && !on_id;
    let all = !found.get_bool("sparse").unwrap_or_default() && !found.contains_key("partialFilterExpression");
    let theirs = |path: &String| !fields.contains(&path.split('.').next().unwrap_or_default());
    if unique && all && !fields.is_empty() && found.get_document("key").is_ok_and(|key| key.keys().all(theirs)) {
        let text = format!(
            "index `{name}` of collection `{collection}` is unique over what the struct does not have: only one record can be without \
             it, all others are refused and become dead letters; give the struct that field, or make the index sparse"
        );
        return Some(Finding::warning("unique-index", entity, text));
    }
    unique.then(|| {
        let text = format!(
            "index `{name}` of collection `{collection}` is unique: a record that has another one's value is refused \
             and becomes a dead letter"
        );
        Finding::note("unique-index", entity, text)
    })
}

pub(crate) fn first_batch(reply: &Document) -> impl Iterator<Item = &Document> {
    reply.get_document("cursor").ok().into_iter().flat_map(|cursor| documents(cursor, "firstBatch"))
}

pub(crate) enum Answer {
    Reply(Document),
    /// Not allowed, or a view.
    Refused,
    /// No such collection.
    Absent,
}

pub(crate) async fn command(sink: &MongoSink, what: &str, command: Document) -> Result<Answer, SinkError> {
    let answer = sink.bounded(what, async {
        match sink.database().run_command(command).await {
            Err(error) if is_command(&error, NAMESPACE_NOT_FOUND) => Ok(Answer::Absent),
            Err(error)
                if [UNAUTHORIZED, COMMAND_NOT_SUPPORTED_ON_VIEW].iter().any(|code| is_command(&error, *code)) =>
            {
                Ok(Answer::Refused)
            }
            Err(error) => Err(error),
            Ok(reply) => Ok(Answer::Reply(reply)),
        }
    });
    answer.await
}

#[cfg(test)]
mod tests {
    use wb_core::Severity;

    use super::*;

    fn codes(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn collections_that_cannot_hold_records() {
        for (found, expected) in [
            (doc! { "type": "collection", "options": {} }, vec![]),
            (doc! { "type": "view", "options": { "viewOn": "a" } }, vec!["view"]),
            (doc! { "type": "timeseries", "options": {} }, vec!["time-series"]),
            (doc! { "type": "collection", "options": { "capped": true } }, vec!["capped"]),
            (doc! { "type": "collection", "options": { "validator": { "a": 1 } } }, vec!["validator"]),
            (doc! { "type": "collection", "options": { "validator": { "a": 1 }, "validationAction": "warn" } }, vec![]),
            (doc! { "type": "collection", "options": { "collation": { "locale": "de" } } }, vec!["collation"]),
        ] {
            assert_eq!(codes(&kind(&found, "posts", "entity `post`")), expected, "{found}");
        }
    }

    #[test]
    fn indexes_that_refuse_records() {
        let (note, warning) = (Some(("unique-index", Severity::Note)), Some(("unique-index", Severity::Warning)));
        for (found, expected) in [
            (doc! { "name": "_id_", "key": { "_id": 1 }, "unique": true }, None),
            (doc! { "name": "a", "key": { "a": 1 } }, None),
            (doc! { "name": "a", "key": { "a": 1 }, "unique": true }, note),
            (doc! { "name": "a", "key": { "a.x": 1, "theirs": 1 }, "unique": true }, note),
            // What the struct does not have is null in each of its documents.
            (doc! { "name": "b", "key": { "theirs": 1 }, "unique": true }, warning),
            (doc! { "name": "b", "key": { "theirs.x": 1, "more": 1 }, "unique": true }, warning),
            (doc! { "name": "b", "key": { "theirs": 1 }, "unique": true, "sparse": true }, note),
            (
                doc! { "name": "b", "key": { "theirs": 1 }, "unique": true, "partialFilterExpression": { "theirs": 1 } },
                note,
            ),
            (doc! { "name": "at", "key": { "at": 1 }, "expireAfterSeconds": 60 }, Some(("ttl-index", Severity::Note))),
        ] {
            let finding = index(&found, "posts", "entity `post`", &["a", "_id"]);
            assert_eq!(finding.map(|finding| (finding.code, finding.severity)), expected, "{found}");
            if expected == warning {
                let finding = index(&found, "posts", "entity `post`", &[]);
                assert_eq!(finding.map(|finding| finding.severity), Some(Severity::Note), "not all fields are known");
            }
        }
    }

    #[test]
    fn servers() {
        assert_eq!(Server::read(&doc! { "isWritablePrimary": true }), Server::Standalone);
        assert_eq!(Server::read(&doc! { "msg": "isdbgrid" }), Server::Mongos);
        let set = doc! { "setName": "rs0", "hosts": ["a", "b"], "arbiters": ["c"] };
        assert_eq!(Server::read(&set), Server::ReplicaSet { name: "rs0".to_owned(), members: 3 });
    }
}
