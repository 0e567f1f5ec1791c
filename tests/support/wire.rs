//! A wire to a server that can be cut, without touching the connections of others.

use std::io;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A wire to a server: what connects to [`url`](Wire::url) is passed on until it is cut.
#[derive(Debug)]
pub struct Wire {
    /// Where to connect.
    pub url: String,
    cuts: watch::Sender<u64>,
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
        let server = server.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut seen) = (server.clone(), seen.clone());
                seen.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(&server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Ok(Self { url, cuts, task })
    }

    /// Cuts every connection that is there now, wherever its requests and replies are; later ones pass.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}
