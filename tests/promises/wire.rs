//! A wire to Redis that knows where a command ends: a test holds a client between two commands of one pipeline, or cuts
//! it off before or after one.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::violation::{Sort, Violation, within};

/// When the connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The command does not reach the server.
    Before,
    /// The server carries it out, and the client does not hear of it.
    After,
}

/// What a command that waits must be about. An engine sends commands of its own at any moment (the lineage beat, looks at
/// topology and shapes), which must never take the step that is meant for another.
#[derive(Clone, Debug)]
pub(crate) enum About {
    /// The record of this id: it names the id, or the key of its clean copy.
    Record(i64),
    /// A key of a partition: `flushing`.
    Key(&'static str),
}

impl About {
    fn names(&self, argument: &[u8]) -> bool {
        match self {
            Self::Record(id) => {
                argument == id.to_string().as_bytes() || argument.ends_with(format!(":r:{id}").as_bytes())
            }
            Self::Key(key) => argument.ends_with(format!(":{key}").as_bytes()),
        }
    }
}

struct Watched {
    /// Names of commands; empty: whatever its name.
    names: BTreeSet<String>,
    about: About,
}

#[derive(Default)]
struct Orders {
    /// Commands that wait to be let through.
    watched: Option<Watched>,
    /// A command that ends its connection, and how.
    cut: Option<(String, Cut)>,
}

struct Shared {
    orders: Mutex<Orders>,
    let_through: Semaphore,
    refuses: watch::Sender<bool>,
    held: mpsc::UnboundedSender<String>,
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Wire {
    pub(crate) url: String,
    shared: Arc<Shared>,
    held: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A wire to the server of `url` (`scheme://host:port/...`).
    pub(crate) async fn to(url: &str) -> Result<Self, Violation> {
        let odd = || Violation::trouble("the URL names no host");
        let (scheme, rest) = url.split_once("://").ok_or_else(odd)?;
        let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, server) = server.rsplit_once('@').map_or(("", server), |(login, server)| (login, server));
        let at = if login.is_empty() { "" } else { "@" };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("{scheme}://{login}{at}{}/{path}", listener.local_addr()?);
        let (sender, held) = mpsc::unbounded_channel();
        let (let_through, refuses) = (Semaphore::new(0), watch::Sender::new(false));
        let shared = Arc::new(Shared { orders: Mutex::default(), let_through, refuses, held: sender });
        let task = tokio::spawn(accept(listener, server.to_owned(), shared.clone(), scheme == "redis"));
        Ok(Self { url, shared, held: tokio::sync::Mutex::new(held), task })
    }

    /// From now on these commands wait, if they are about this; no names: every command about it.
    pub(crate) fn watch(&self, commands: &[&str], about: About) {
        let names = commands.iter().map(|&name| name.to_owned()).collect();
        self.shared.orders().watched = Some(Watched { names, about });
    }

    /// Returns the next command that waits.
    pub(crate) async fn next(&self) -> Result<String, Violation> {
        let next = within("a command on the wire", async { self.held.lock().await.recv().await }).await?;
        next.ok_or_else(|| Violation::trouble("the wire is gone"))
    }

    /// Lets one command through.
    pub(crate) fn step(&self) {
        self.shared.let_through.add_permits(1);
    }

    /// Nothing waits any more, but for what waits now: that takes a step.
    pub(crate) fn unwatch(&self) {
        self.shared.orders().watched = None;
    }

    /// The next connection that sends this command is cut there.
    pub(crate) fn cut_at(&self, command: &str, cut: Cut) {
        self.shared.orders().cut = Some((command.to_owned(), cut));
    }

    /// Whether the cut was made.
    pub(crate) fn was_cut(&self) -> bool {
        self.shared.orders().cut.is_none()
    }

    /// Every connection is cut, and new ones are closed at once; or no longer.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.shared.refuses.send_replace(refuses);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: String, shared: Arc<Shared>, by_commands: bool) {
    while let Ok((near, _)) = listener.accept().await {
        let (server, shared) = (server.clone(), shared.clone());
        tokio::spawn(async move {
            if let Ok(far) = TcpStream::connect(&server).await {
                let mut refuses = shared.refuses.subscribe();
                // However it ends, both ends are closed.
                tokio::select! {
                    biased;
                    _ = refuses.wait_for(|refuses| *refuses) => {}
                    _ = Line { near, far, shared, by_commands }.run() => {}
                }
            }
        });
    }
}

/// One connection.
struct Line {
    near: TcpStream,
    far: TcpStream,
    shared: Arc<Shared>,
    by_commands: bool,
}

impl Line {
    async fn run(mut self) -> io::Result<()> {
        self.near.set_nodelay(true)?;
        self.far.set_nodelay(true)?;
        let (mut from_near, mut from_far) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut unsent = Vec::new();
        loop {
            tokio::select! {
                read = self.near.read(&mut from_near) => {
                    let chunk = from_near.get(..read?).filter(|chunk| !chunk.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
                    if !self.by_commands {
                        self.far.write_all(chunk).await?;
                        continue;
                    }
                    unsent.extend_from_slice(chunk);
                    while let Some(Command { parts, length }) = first_command(&unsent) {
                        let bytes: Vec<u8> = unsent.drain(..length).collect();
                        self.forward(&parts, &bytes).await?;
                    }
                }
                read = self.far.read(&mut from_far) => {
                    let chunk = from_far.get(..read?).filter(|chunk| !chunk.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
                    self.near.write_all(chunk).await?;
                }
            }
        }
    }

    async fn forward(&mut self, parts: &[Vec<u8>], command: &[u8]) -> io::Result<()> {
        let name = parts.first().map(|name| String::from_utf8_lossy(name).to_uppercase()).unwrap_or_default();
        let (watched, cut) = {
            let mut orders = self.shared.orders();
            let cut = orders.cut.take_if(|(at, _)| *at == name).map(|(_, cut)| cut);
            let watched = orders.watched.as_ref().is_some_and(|watched| {
                (watched.names.is_empty() || watched.names.contains(&name))
                    && parts.iter().any(|part| watched.about.names(part))
            });
            (watched, cut)
        };
        if cut == Some(Cut::Before) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if watched {
            // The test is over when nobody listens.
            let _ = self.shared.held.send(name);
            self.wait().await?;
        }
        self.far.write_all(command).await?;
        if cut == Some(Cut::After) {
            // The server closes when it has carried out everything that it was sent. Its next answer alone would not
            // say so: that may be the one to an earlier command.
            self.far.shutdown().await?;
            while self.far.read(&mut [0; 1 << 12]).await? > 0 {}
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Waits for a step; answers to what was sent before travel on.
    async fn wait(&mut self) -> io::Result<()> {
        let mut answers = vec![0; 1 << 16];
        loop {
            tokio::select! {
                permit = self.shared.let_through.acquire() => {
                    permit.map_err(|_| io::ErrorKind::BrokenPipe)?.forget();
                    return Ok(());
                }
                read = self.far.read(&mut answers) => {
                    let chunk = answers.get(..read?).unwrap_or_default();
                    self.near.write_all(chunk).await?;
                }
            }
        }
    }
}

/// One command: its name and arguments, and how many bytes it takes.
struct Command {
    parts: Vec<Vec<u8>>,
    length: usize,
}

/// The first whole command, an array of bulk strings.
fn first_command(bytes: &[u8]) -> Option<Command> {
    let mut at = 0;
    let number = |at: &mut usize| {
        let rest = bytes.get(*at + 1..)?;
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        *at += 1 + end + 2;
        std::str::from_utf8(rest.get(..end)?).ok()?.parse::<usize>().ok()
    };
    let count = number(&mut at)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let length = number(&mut at)?;
        parts.push(bytes.get(at..at + length)?.to_vec());
        at += length + 2;
    }
    (at <= bytes.len()).then_some(Command { parts, length: at })
}

/// A violation unless the wire was cut where it was to be.
pub(crate) fn ensure_cut(wire: &Wire) -> Result<(), Violation> {
    crate::violation::ensure(wire.was_cut(), Sort::Trouble, || "the command never came".to_owned())
}
