//! URL → client, deployment, collection.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use mongodb::error::{Error, ErrorKind as DriverErrorKind};
use mongodb::options::{Acknowledgment, ClientOptions};
use wb_core::{ErrorKind, SinkError};

use crate::fence;
use crate::reply::integer;
use crate::sink::MongoSink;

/// Selecting a server, and connecting to it, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that the driver has to a server at most, unless it is told otherwise.
pub(crate) const CONNECTIONS: u32 = 10;

/// `create` on a collection that is there.
const NAMESPACE_EXISTS: i32 = 48;
/// The user may write, but not create.
const UNAUTHORIZED: i32 = 13;

/// What the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// Replica set or mongos.
    pub(crate) transactions: bool,
    /// Bytes of the longest document.
    pub(crate) max_document: usize,
    /// Statements in one command.
    pub(crate) max_statements: usize,
}

impl Deployment {
    /// Reads a reply to `hello`.
    fn read(hello: &Document) -> Self {
        let limit = |field, default| integer(hello, field).and_then(|v| usize::try_from(v).ok()).unwrap_or(default);
        Self {
            transactions: hello.contains_key("setName") || hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid"),
            max_document: limit("maxBsonObjectSize", 16 * 1024 * 1024),
            max_statements: limit("maxWriteBatchSize", 100_000),
        }
    }
}

/// The client of a URL, and how many connections it has to a server at most.
pub(crate) async fn client(url: &str) -> Result<(Client, u32), SinkError> {
    let failed = |error: &Error| {
        // A message that quotes the URL's secret part is left out.
        let text = error.kind.to_string();
        let reason = if secret(url).is_some_and(|secret| text.contains(secret)) { "malformed" } else { text.as_str() };
        // Whatever is wrong with the text of a URL, waiting does not mend it; a name that does not resolve may.
        let kind = match &*error.kind {
            DriverErrorKind::DnsResolve { .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Misconfigured,
        };
        SinkError::new(kind, format!("cannot use {}: {reason}", redact(url)))
    };
    let mut options = ClientOptions::parse(url).await.map_err(|error| failed(&error))?;
    options.server_selection_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.app_name.get_or_insert_with(|| "write-behind".to_owned());
    // Zero stands for no limit.
    let connections = options.max_pool_size.map_or(CONNECTIONS, |most| if most == 0 { u32::MAX } else { most });
    Ok((Client::with_options(options).map_err(|error| failed(&error))?, connections))
}

/// Checks the write concern, and asks the server what it is.
pub(crate) async fn open(sink: &MongoSink) -> Result<(), SinkError> {
    if sink.write_concern().w == Some(Acknowledgment::Nodes(0)) {
        let text = "the write concern `w: 0` acknowledges nothing; give the database `w: \"majority\"`";
        return Err(SinkError::new(ErrorKind::Misconfigured, text));
    }
    sink.deployment().await.map(drop)
}

/// Creates the collection, and the one of the fences, where they are missing.
pub(crate) async fn prepare(sink: &MongoSink, collection: &str) -> Result<(), SinkError> {
    if sink.deployment().await?.transactions {
        create(sink, fence::COLLECTION).await?;
    }
    create(sink, collection).await
}

/// Asks the server what it is. `hello` needs a connection to a primary, so this is the ping too.
pub(crate) async fn discover(sink: &MongoSink) -> Result<Deployment, SinkError> {
    let hello = sink.bounded("reach a server", async { sink.database().run_command(doc! { "hello": 1 }).await });
    Ok(Deployment::read(&hello.await?))
}

/// Creates the collection outside of any transaction, where every server version can.
async fn create(sink: &MongoSink, collection: &str) -> Result<(), SinkError> {
    let what = format!("create collection `{collection}`");
    let create = sink.bounded(&what, async {
        match sink.database().create_collection(collection).await {
            Err(error) if is_command(&error, NAMESPACE_EXISTS) => Ok(()),
            // Whether the collection is there and can be written to is for the first write to find out.
            Err(error) if is_command(&error, UNAUTHORIZED) => {
                tracing::debug!(collection, "may not create collections");
                Ok(())
            }
            created => created,
        }
    });
    create.await
}

/// Whether the server refused a command with this code.
pub(crate) fn is_command(error: &Error, code: i32) -> bool {
    matches!(&*error.kind, DriverErrorKind::Command(command) if command.code == code)
}

/// The URL as errors name it: no password, no options (which may hold tokens).
pub(crate) fn redact(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let shown = match rest.rsplit_once('@') {
        Some((userinfo, hosts)) => {
            let user = userinfo.split(':').next().unwrap_or_default();
            format!("{user}:***@{}", before_options(hosts))
        }
        None => before_options(rest).to_owned(),
    };
    if scheme.is_empty() { shown } else { format!("{scheme}://{shown}") }
}

fn before_options(text: &str) -> &str {
    text.split('?').next().unwrap_or_default()
}

/// The password of a URL, as it is written there.
fn secret(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let (userinfo, _) = rest.rsplit_once('@')?;
    userinfo.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_their_secrets() {
        for (url, shown) in [
            ("mongodb://localhost:27017", "mongodb://localhost:27017"),
            ("mongodb://localhost/?replicaSet=rs0", "mongodb://localhost/"),
            ("mongodb://ann:s3cret@a:1,b:2/db?w=1", "mongodb://ann:***@a:1,b:2/db"),
            ("mongodb+srv://ann:s3cret@cluster.example.net", "mongodb+srv://ann:***@cluster.example.net"),
            ("mongodb://ann:s3@cr/et@host", "mongodb://ann:***@host"),
            ("mongodb://ann:s3?cret@host", "mongodb://ann:***@host"),
            ("ann:s3cret@host", "ann:***@host"),
            (
                "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:t0ken@x",
                "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:***@x",
            ),
        ] {
            assert_eq!(redact(url), shown);
            assert!(!redact(url).contains("s3"), "{}", redact(url));
        }
    }

    #[test]
    fn a_replica_set_and_a_mongos_have_transactions() {
        let standalone =
            doc! { "isWritablePrimary": true, "maxBsonObjectSize": 16_777_216, "maxWriteBatchSize": 100_000 };
        assert_eq!(
            Deployment::read(&standalone),
            Deployment { transactions: false, max_document: 16_777_216, max_statements: 100_000 }
        );
        assert!(Deployment::read(&doc! { "setName": "rs0" }).transactions);
        assert!(Deployment::read(&doc! { "msg": "isdbgrid" }).transactions);
    }
}
