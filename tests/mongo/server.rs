//! The servers of these tests: a database of its own for each test, dropped when it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::{Client, Database};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use write_behind::mongo::{MongoEntity, MongoSink};
use write_behind::{Batch, Delete, Entity, Fence, Id, Scope, Upsert};
use write_behind_tests::eventually;

/// A setting of the environment; `None` skips the test.
pub(crate) fn setting(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let required = |name| std::env::var(name).is_ok_and(|value| value == "1" || value == "true");
        assert!(!required("WB_REQUIRE_SERVERS") && !required("CI"), "{name} is not set");
        eprintln!("skipped: {name} is not set");
    }
    value
}

/// Runs a test on a database of its own on the replica set.
pub(crate) async fn on_replica_set<T: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Database) -> T) {
    if let Some(url) = setting("WB_MONGO_URL") {
        let client = Client::with_uri_str(&url).await.unwrap();
        on_database(client, test).await;
    }
}

async fn on_database<T: Future<Output = ()> + Send + 'static>(client: Client, test: impl FnOnce(Database) -> T) {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let database = client.database(&format!("wb_test_{}_{nanos}", std::process::id()));
    // In a task, so that a panic does not leave the database behind.
    let outcome = tokio::spawn(test(database.clone())).await;
    // Waits for transactions that a failed test left open.
    let dropped = tokio::time::timeout(Duration::from_secs(20), async { database.drop().await }).await;
    if let Err(failed) = outcome {
        std::panic::resume_unwind(failed.into_panic());
    }
    dropped.unwrap().unwrap();
}

/// Runs a test on a standalone server that is started for it.
pub(crate) async fn on_standalone<T: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Database) -> T) {
    if let Some(binary) = setting("WB_MONGOD") {
        let server = Own::start(&binary, &[]).await;
        on_database(server.client.clone(), test).await;
        server.stop().await;
    }
}

/// Runs a test on a replica set of one that is started for it, with the server's own switches for tests. The server
/// ends transactions after `lifetime`, and looks for them in steps of half of it.
pub(crate) async fn on_own_replica_set<T: Future<Output = ()> + Send + 'static>(
    lifetime: Duration,
    test: impl FnOnce(Database) -> T,
) {
    if let Some(binary) = setting("WB_MONGOD") {
        let lifetime = format!("transactionLifetimeLimitSeconds={}", lifetime.as_secs());
        let arguments = [lifetime.as_str(), "enableTestCommands=1"].map(|parameter| ["--setParameter", parameter]);
        let arguments = arguments.as_flattened().iter().copied();
        let arguments: Vec<&str> = arguments.chain(["--replSet", "own"]).collect();
        let server = Own::start(&binary, &arguments).await;
        let admin = server.client.database("admin");
        admin.run_command(doc! { "replSetInitiate": {} }).await.unwrap();
        eventually("a primary", Duration::from_secs(30), async || {
            let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
            hello.get_bool("isWritablePrimary").unwrap().then_some(())
        })
        .await;
        on_database(server.client.clone(), test).await;
        server.stop().await;
    }
}

/// A server that one test starts for itself.
struct Own {
    process: Child,
    folder: PathBuf,
    client: Client,
}

impl Own {
    async fn start(binary: &str, arguments: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("wb-standalone-{port}"));
        tokio::fs::create_dir_all(&folder).await.unwrap();
        let process = Command::new(binary)
            .args(["--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--wiredTigerCacheSizeGB", "0.25"])
            .arg("--dbpath")
            .arg(&folder)
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let client = Client::with_uri_str(format!("mongodb://127.0.0.1:{port}/?directConnection=true")).await.unwrap();
        // The driver waits for the server, 30 seconds at most.
        client.database("admin").run_command(doc! { "ping": 1 }).await.unwrap();
        Self { process, folder, client }
    }

    async fn stop(mut self) {
        self.process.kill().await.unwrap();
        tokio::fs::remove_dir_all(&self.folder).await.unwrap();
    }
}

/// A door to a server that can be frozen (nothing passes, nothing is closed) or cut (everything is closed).
pub(crate) struct Door {
    pub(crate) port: u16,
    frozen: watch::Sender<bool>,
    cuts: watch::Sender<u64>,
    _doorman: JoinSet<()>,
}

impl Door {
    /// A door to the first host of a URL.
    pub(crate) async fn to(url: &str) -> Self {
        let host = url.trim_start_matches("mongodb://").split(['/', ',', '?']).next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (frozen, cuts) = (watch::Sender::new(false), watch::Sender::new(0));
        let mut doorman = JoinSet::new();
        let (is_frozen, is_cut) = (frozen.subscribe(), cuts.subscribe());
        doorman.spawn(async move {
            let mut guests = JoinSet::new();
            loop {
                let (inside, _) = listener.accept().await.unwrap();
                guests.spawn(pass(inside, host.clone(), is_frozen.clone(), is_cut.clone()));
            }
        });
        Self { port, frozen, cuts, _doorman: doorman }
    }

    pub(crate) fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    pub(crate) fn thaw(&self) {
        self.frozen.send_replace(false);
    }

    /// Closes all connections; later ones pass.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(crate) async fn database(&self, name: &str) -> Database {
        let url = format!("mongodb://127.0.0.1:{}/?directConnection=true&serverSelectionTimeoutMS=1000", self.port);
        Client::with_uri_str(url).await.unwrap().database(name)
    }
}

async fn pass(inside: TcpStream, host: String, frozen: watch::Receiver<bool>, mut cut: watch::Receiver<u64>) {
    let Ok(outside) = TcpStream::connect(&host).await else { return };
    cut.borrow_and_update();
    let ((from_inside, to_inside), (from_outside, to_outside)) = (inside.into_split(), outside.into_split());
    tokio::select! {
        () = carry(from_inside, to_outside, frozen.clone()) => {}
        () = carry(from_outside, to_inside, frozen) => {}
        _ = cut.changed() => {}
    }
}

/// Carries bytes one way; what was read while the door is frozen is kept until it thaws.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut frozen: watch::Receiver<bool>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        if to.write_all(bytes.get(..count).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}

/// A sink on this database, opened for an entity.
pub(crate) async fn opened<E: MongoEntity>(database: &Database) -> MongoSink {
    let sink = MongoSink::new(database.clone());
    open::<E>(&sink).await.unwrap();
    sink
}

pub(crate) async fn open<E: MongoEntity>(sink: &MongoSink) -> Result<(), write_behind::SinkError> {
    let scope = Scope::new("test", E::NAME, 16);
    write_behind::Sink::<E>::open(sink, &scope).await?;
    write_behind::Sink::<E>::prepare(sink, &scope).await
}

/// A batch of upserts and deletes.
pub(crate) fn batch<E: Entity + Clone>(upserts: &[E], deletes: &[E]) -> Batch<E> {
    fenced(&[], upserts, deletes)
}

/// A batch with fences.
pub(crate) fn fenced<E: Entity + Clone>(fences: &[Fence], upserts: &[E], deletes: &[E]) -> Batch<E> {
    Batch::new(
        Arc::new(Scope::new("test", E::NAME, 16)),
        fences.to_vec(),
        upserts.iter().map(|row| Upsert::new(id(row), row.clone())).collect(),
        deletes.iter().map(|row| Delete::new(id(row), row.key())).collect(),
    )
}

pub(crate) fn id<E: Entity>(row: &E) -> Id {
    Id::of(&row.key()).unwrap()
}

/// The document of this `_id`, as it is stored.
pub(crate) async fn stored<E: MongoEntity>(database: &Database, key: &E::Key) -> Option<RawDocumentBuf> {
    let filter = doc! { "_id": E::id_of(key).unwrap() };
    database.collection::<RawDocumentBuf>(E::COLLECTION).find_one(filter).await.unwrap()
}

/// Fails a test that hangs.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, work).await.expect("took too long")
}
