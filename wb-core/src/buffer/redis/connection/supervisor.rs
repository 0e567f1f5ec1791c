//! The task that replaces a connection: one attempt at a time, for ever.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::peer::Peer;
use super::verdict::{Symptom, code_symptom, jittered, longer, pause_after_life};
use super::{Live, Outage, Shared, State};
use crate::telemetry::log;

/// Replaces connections until the connection is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut state = shared.state.subscribe();
    let mut pause = Duration::ZERO;
    loop {
        let outage = tokio::select! {
            biased;
            () = ended(shared.ended.subscribe()) => return,
            outage = outage(&mut state) => outage,
        };
        let Some(outage) = outage else { return };
        log::connection_lost(&outage.error);
        pause = pause_after_life(pause, outage.lived);
        loop {
            tokio::select! {
                biased;
                () = ended(shared.ended.subscribe()) => return,
                () = sleep(jittered(pause, rand::random())) => {}
            }
            let attempt = tokio::select! {
                biased;
                () = ended(shared.ended.subscribe()) => return,
                attempt = shared.connect(outage.needs_primary, outage.peer.as_ref()) => attempt,
            };
            match attempt {
                Ok((connection, peer)) => {
                    if !shared.serve(connection, peer, &outage) {
                        return;
                    }
                    log::connection_back(outage.since.elapsed());
                    break;
                }
                Err(error) => shared.attempt_failed(error),
            }
            pause = longer(pause);
        }
    }
}

/// The next outage; `None` when there will be none.
async fn outage(state: &mut watch::Receiver<State>) -> Option<Outage> {
    match &*state.wait_for(|state| !matches!(state, State::Up(_))).await.ok()? {
        State::Down(outage) => Some(outage.clone()),
        State::Up(_) | State::Closed => None,
    }
}

async fn ended(mut ended: watch::Receiver<bool>) {
    // Its sender lives as long as the task.
    let _ = ended.wait_for(|ended| *ended).await.is_ok();
}

impl Shared {
    /// One attempt: resolves the name, connects, and asks whether the server serves.
    /// `last` is the connection before: the server ends it, so that nothing sent on it arrives later than what is sent on
    /// this one.
    pub(super) async fn connect(
        &self,
        needs_primary: bool,
        last: Option<&Peer>,
    ) -> RedisResult<(MultiplexedConnection, Option<Peer>)> {
        let attempt = async {
            let mut connection = self.server.client.get_multiplexed_async_connection_with_config(&self.config).await?;
            probe(&mut connection, needs_primary).await?;
            if let Some(last) = last {
                last.end(&mut connection).await?;
            }
            let peer = Peer::ask(&mut connection).await?;
            Ok((connection, peer))
        };
        timeout(self.connect_timeout, attempt)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
            .map_err(|error| self.server.told(error))
    }

    /// The next generation serves; `false` when the connection was closed meanwhile.
    fn serve(&self, connection: MultiplexedConnection, peer: Option<Peer>, outage: &Outage) -> bool {
        let live = Arc::new(Live::new(connection, peer, outage.generation + 1));
        self.state.send_if_modified(|state| {
            let down = matches!(state, State::Down(_));
            if down {
                *state = State::Up(live);
            }
            down
        })
    }

    fn attempt_failed(&self, error: RedisError) {
        self.state.send_if_modified(|state| match state {
            State::Down(outage) => {
                outage.attempts += 1;
                outage.error = error;
                true
            }
            State::Up(_) | State::Closed => false,
        });
    }
}

/// A server that loads its data, or has lost its primary, takes connections and serves nothing.
async fn probe(connection: &mut MultiplexedConnection, needs_primary: bool) -> RedisResult<()> {
    serves(redis::cmd("PING").query_async::<Value>(connection).await)?;
    if needs_primary {
        let role: Option<Value> = serves(redis::cmd("ROLE").query_async::<Value>(connection).await)?;
        if role.is_some_and(|role| is_replica(&role)) {
            return Err((ErrorKind::Client, "the server is a replica, which takes no writes").into());
        }
    }
    Ok(())
}

/// The reply; `None` where the command is not allowed, which says nothing.
fn serves(reply: RedisResult<Value>) -> RedisResult<Option<Value>> {
    match reply {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_io_error() => Err(error),
        Err(error) => match error.code().map(code_symptom) {
            Some(Symptom::Answered) => Ok(None),
            _ => Err(error),
        },
    }
}

/// What `ROLE` says: a name first, then what depends on it.
fn is_replica(role: &Value) -> bool {
    let Value::Array(parts) = role else { return false };
    match parts.first() {
        Some(Value::BulkString(name)) => name.as_slice() == b"slave",
        Some(Value::SimpleString(name)) => name == "slave",
        _ => false,
    }
}
