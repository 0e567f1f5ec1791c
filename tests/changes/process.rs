//! Processes of these tests: this binary again, with one test and a part to play.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use write_behind::Role;

use crate::counted::{Counted, Place, options};

const PART: &str = "WB_CHANGES_PART";

/// Not a test, but where a process begins: `worker`, or `count <increments>`.
#[test]
#[ignore = "a process of the other tests, started by them"]
fn part() {
    let Ok(part) = std::env::var(PART) else { return };
    let words: Vec<&str> = part.split(' ').collect();
    let [redis, database, namespace, what, times] = words.as_slice() else { return };
    let place =
        Place { redis: (*redis).to_owned(), database: (*database).to_owned(), namespace: (*namespace).to_owned() };
    let (what, times) = ((*what).to_owned(), times.parse::<u64>().unwrap());
    std::thread::spawn(|| {
        // The other end closes when the test is over, however it ends.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        if what == "worker" {
            let _engine = place.engine(Role::Worker, options()).await;
            std::future::pending::<()>().await;
        }
        let engine = place.engine(Role::Writer, options()).await;
        let counted = engine.cache::<Counted>().unwrap();
        // Some at a time, as requests come to a server, and over some seconds, so that workers die meanwhile.
        let mut sums = Vec::new();
        let mut left = times;
        while left > 0 {
            let some = left.min(5);
            left -= some;
            let increments = (0..some).map(|_| counted.increment(&1, Counted::SUM, 1));
            sums.extend(futures::future::join_all(increments).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let acknowledged = sums.iter().filter(|sum| sum.is_ok()).count();
        for error in sums.iter().filter_map(|sum| sum.as_ref().err()) {
            eprintln!("{}", write_behind_tests::chain(error));
        }
        println!("acknowledged={acknowledged}");
    });
}

/// A running process. Killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(place: &Place, what: &str, times: u64, failpoints: &str) -> Self {
        let Place { redis, database, namespace } = place;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::part", "--ignored", "--nocapture"])
            .env(PART, format!("{redis} {database} {namespace} {what} {times}"))
            .env("WB_FAILPOINT", failpoints)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        Self(child.unwrap())
    }

    /// What it says that was acknowledged; `None` while it runs.
    pub(crate) fn acknowledged(&mut self) -> Option<u64> {
        self.0.try_wait().unwrap()?;
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let number = said.lines().find_map(|line| line.strip_prefix("acknowledged="))?;
        Some(number.parse().unwrap())
    }

    pub(crate) fn has_died(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when it is dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
