//! Names the runs of a server that may not be asked which one it is (`INFO` is forbidden).
//!
//! A script that was sent once is known to this run of the server, and to no other one: it is neither in its files nor sent to
//! replicas. So whoever comes first leaves one whose text is a new name, and writes the name down. Who does not find the script of
//! the name that is written down is on another run (or somebody has emptied the cache of scripts, which looks the same). Where
//! scripts are answered by another error than that it is not known, only beats tell.

use redis::{ErrorKind, RedisError, Script, ServerErrorKind};

use super::connection::Pinned;

/// A name that no run has; no run id begins like this.
pub(super) fn fresh() -> String {
    format!("-{}", uuid::Uuid::new_v4().simple())
}

fn text(run: &str) -> String {
    format!("return '{run}'")
}

/// Whether this is the run of that name, as far as anybody can tell.
pub(super) async fn stands(connection: &Pinned, run: &str) -> Result<bool, RedisError> {
    let script = Script::new(&text(run));
    let told = redis::cmd("EVALSHA").arg(script.get_hash()).arg(0).exec_async(&mut connection.clone()).await;
    match told {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => Ok(false),
        Err(error) if matches!(error.kind(), ErrorKind::Server(_)) || error.code().is_some() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Names this run.
pub(super) async fn leave(connection: &Pinned, run: &str) -> Result<(), RedisError> {
    redis::cmd("EVAL").arg(text(run)).arg(0).exec_async(&mut connection.clone()).await
}
