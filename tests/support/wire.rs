//! A wire to a server that can be cut, silenced, slowed down and throttled, without touching the connections of others.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What all connections of a wire share: a limit of bytes a second each way.
#[derive(Debug, Default)]
struct Link {
    limit: AtomicU64,
    to_server: Way,
    from_server: Way,
}

/// One direction of a link.
#[derive(Debug, Default)]
struct Way {
    carried: AtomicU64,
    /// When what was let on it so far has passed.
    free_at: Mutex<Option<Instant>>,
}

/// A timer is late by so much at most; what a way was idle for as long is made up for.
const LATE: Duration = Duration::from_millis(5);

/// Bytes of one connection that pass a throttled link in one piece: then it is the turn of others.
const TURN: usize = 16 * 1024;

impl Way {
    /// Lets these bytes on the way; when they have passed it, if there is a limit.
    fn pass(&self, bytes: usize, limit: u64) -> Option<Instant> {
        self.carried.fetch_add(bytes as u64, Ordering::Relaxed);
        if limit == 0 {
            return None;
        }
        let takes = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / limit);
        let mut free_at = self.free_at.lock().unwrap();
        let begins = Instant::now() - LATE;
        let passed = free_at.map_or(begins, |free_at| free_at.max(begins)) + takes;
        *free_at = Some(passed);
        Some(passed)
    }
}

/// A wire to a server: what connects to [`url`](Wire::url) is passed on until it is cut.
#[derive(Debug)]
pub struct Wire {
    /// Where to connect.
    pub url: String,
    cuts: watch::Sender<u64>,
    silences: watch::Sender<u64>,
    stalled: watch::Sender<bool>,
    server: watch::Sender<String>,
    delay: watch::Sender<Duration>,
    link: Arc<Link>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A wire to the server of `url` (`scheme://host:port/...`).
    ///
    /// # Errors
    /// When no port can be opened, or the URL names none.
    pub async fn to(url: &str) -> io::Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or(io::ErrorKind::InvalidInput)?;
        let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, server) = server.rsplit_once('@').map_or(("", server), |(login, server)| (login, server));
        let at = if login.is_empty() { "" } else { "@" };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("{scheme}://{login}{at}{}/{path}", listener.local_addr()?);
        let (cuts, seen) = watch::channel(0);
        let (silences, silenced) = watch::channel(0);
        let (delay, delayed) = watch::channel(Duration::ZERO);
        let (stalled, stall) = watch::channel(false);
        let (target, server) = watch::channel(server.to_owned());
        let link = Arc::new(Link::default());
        let shared = link.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (server, mut seen, delayed) = (server.borrow().clone(), seen.clone(), delayed.clone());
                let (mut silenced, link) = (silenced.clone(), shared.clone());
                // Later connections than the stall pass.
                let stall = if *stall.borrow() { watch::channel(false).1 } else { stall.clone() };
                seen.mark_unchanged();
                silenced.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(&server).await else { return };
                    // Small answers at once: what slows this down is the delay alone.
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                    tokio::select! {
                        () = carry(from_near, to_far, &delayed, &silenced, stall.clone(), (&link, &link.to_server)) => {}
                        () = async {
                            carry(from_far, to_near, &delayed, &silenced, stall.clone(), (&link, &link.from_server)).await;
                            if is_silent(&silenced) {
                                // The end of the server's side is not heard either.
                                std::future::pending::<()>().await;
                            }
                        } => {}
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Ok(Self { url, cuts, silences, stalled, server: target, delay, link, task })
    }

    /// Cuts every connection that is there now, wherever its requests and replies are; later ones pass.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Every connection that is there now falls silent, half open: what either end sends is gone, and neither hears of
    /// it until it closes its own end or the wire is cut; later ones pass.
    pub fn silence(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }

    /// What travels on the connections that are there now waits until the stall is over; later connections pass.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Later connections lead to the server of this URL, as after a change of a name or an address.
    pub fn lead_to(&self, url: &str) {
        let server = url.split_once("://").map_or(url, |(_, rest)| rest);
        let server = server.split_once('/').map_or(server, |(server, _)| server);
        self.server.send_replace(server.rsplit_once('@').map_or(server, |(_, server)| server).to_owned());
    }

    /// From now on, whatever passes takes this much longer, each way; zero ends it.
    pub fn delay(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }
}

impl Wire {
    /// From now on so many bytes a second pass each way, over all connections together; zero: as many as can.
    pub fn limit(&self, bytes_a_second: u64) {
        self.link.limit.store(bytes_a_second, Ordering::Relaxed);
    }

    /// Bytes that have passed so far: to the server, and from it.
    #[must_use]
    pub fn carried(&self) -> (u64, u64) {
        let of = |way: &Way| way.carried.load(Ordering::Relaxed);
        (of(&self.link.to_server), of(&self.link.from_server))
    }
}

/// Carries bytes one way, until either end closes. What waits when the wire is cut is gone.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: &watch::Receiver<Duration>,
    silenced: &watch::Receiver<u64>,
    mut stall: watch::Receiver<bool>,
    (link, way): (&Link, &Way),
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let turn = if link.limit.load(Ordering::Relaxed) == 0 { bytes.len() } else { TURN };
        let Ok(count @ 1..) = from.read(bytes.get_mut(..turn).unwrap_or_default()).await else { return };
        if let Some(passed) = way.pass(count, link.limit.load(Ordering::Relaxed)) {
            tokio::time::sleep_until(passed).await;
        }
        let delay = *delay.borrow();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if is_silent(silenced) {
            continue;
        }
        // One whose sender is gone stalls no more.
        let _ = stall.wait_for(|stalled| !*stalled).await.is_ok();
        if to.write_all(bytes.get(..count).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}

/// Whether the wire was silenced since this connection began.
fn is_silent(silenced: &watch::Receiver<u64>) -> bool {
    silenced.has_changed().unwrap_or(false)
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}
