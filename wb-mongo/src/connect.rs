//! URL → client, deployment, collection.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use mongodb::error::{Error, ErrorKind as DriverErrorKind};
use mongodb::options::{Acknowledgment, ClientOptions};
use wb_core::{Address, ErrorKind, SinkError};

use crate::fence;
use crate::sink::MongoSink;
use crate::write::reply::integer;

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

/// The client of a URL, how many connections it has to a server at most, and what is shown of the URL.
pub(crate) async fn client(url: &str) -> Result<(Client, u32, Address), SinkError> {
    let address = Address::new(url);
    let unusable = |kind, why: &str| SinkError::new(kind, format!("cannot use {address}: {why}"));
    if !matches!(address.scheme(), Some("mongodb" | "mongodb+srv")) {
        return Err(unusable(ErrorKind::Misconfigured, "it has to begin with mongodb:// or mongodb+srv://"));
    }
    if let Some(why) = address.ambiguity() {
        return Err(unusable(ErrorKind::Misconfigured, why));
    }
    // The driver panics at some of them, with the password in its message.
    if !is_escaped(url.split('?').next().unwrap_or_default()) {
        return Err(unusable(ErrorKind::Misconfigured, "a `%` in user and password is written `%25`"));
    }
    let failed = |error: &Error| {
        let text = address.unless_quoted(error).map(|_| error.kind.to_string());
        let reason =
            text.as_deref().unwrap_or(
                "the driver refuses it, and says why with parts of it that are not shown; in user and password `:`, `/`, `?`, `#` and \
                 `@` are written `%3A`, `%2F`, `%3F`, `%23` and `%40`",
            );
        // Whatever is wrong with the text of a URL, waiting does not mend it; a name that does not resolve may.
        let kind = match &*error.kind {
            DriverErrorKind::DnsResolve { .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Misconfigured,
        };
        unusable(kind, reason)
    };
    let mut options = ClientOptions::parse(url).await.map_err(|error| failed(&error))?;
    options.server_selection_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.app_name.get_or_insert_with(|| "write-behind".to_owned());
    // Zero stands for no limit.
    let connections = options.max_pool_size.map_or(CONNECTIONS, |most| if most == 0 { u32::MAX } else { most });
    let client = Client::with_options(options).map_err(|error| failed(&error))?;
    Ok((client, connections, address))
}

/// Whether every `%` begins the escape of a byte.
fn is_escaped(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts.all(|part| part.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_driver_says_of_a_url_is_shown_without_its_secrets() {
        for url in [
            "ann:hunter2@host",
            "hunter2://ann@host",
            "mongodb://ann:12?hunter2@host",
            "mongodb://ann:12/hunter2@host",
            "mongodb://ann:hunter2",
            "mongodb://ann:hunter2:host",
            "mongodb://ann:hun[ter2@host",
            "mongodb://ann:%)\u{fc}hunter2@host",
            "mongodb://host/?readPreference=hunter2",
            "mongodb://host/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2@x",
        ] {
            let error = client(url).await.expect_err(url);
            let shown = format!("{} {error:?}", error.chain());
            assert!(error.kind() == ErrorKind::Misconfigured && !shown.contains("ter2"), "{url}: {shown}");
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
