//! Workers of these tests: this binary again, with one test and a place to work at.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use write_behind::Role;

use crate::comment::Place;

const PART: &str = "WB_APPEND_PART";

/// Not a test, but where a worker begins.
#[test]
#[ignore = "a process of the other tests, started by them"]
fn worker() {
    let Ok(part) = std::env::var(PART) else { return };
    let words: Vec<&str> = part.split(' ').collect();
    let [redis, database, namespace] = words.as_slice() else { return };
    let place =
        Place { redis: (*redis).to_owned(), database: (*database).to_owned(), namespace: (*namespace).to_owned() };
    std::thread::spawn(|| {
        // The other end closes when the test is over, however it ends.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let _engine = place.engine(Role::Worker).await;
        std::future::pending::<()>().await;
    });
}

/// A running worker. Killed when dropped.
pub(crate) struct Worker(Child);

impl Worker {
    pub(crate) fn start(place: &Place, failpoints: &str) -> Self {
        let Place { redis, database, namespace } = place;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::worker", "--ignored", "--nocapture"])
            .env(PART, format!("{redis} {database} {namespace}"))
            .env("WB_FAILPOINT", failpoints)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        Self(child.unwrap())
    }

    pub(crate) fn has_died(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails only when it is dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
