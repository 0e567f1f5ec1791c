//! Rows per second of the sink beside a hand-written `update` command; a figure to look at, not a test.

use std::time::Instant;

use mongodb::Database;
use mongodb::bson::{RawArrayBuf, RawDocumentBuf, rawdoc};
use write_behind::mongo::MongoSink;
use write_behind::{Batch, ErrorKind, Fence, Scope, Sink};

use crate::entities::Player;
use crate::server::{batch, fenced, on_replica_set, opened};

const ROWS: i64 = 1_000;
const ROUNDS: usize = 21;

async fn by_hand(database: &Database, rows: &[Player]) {
    let updates: RawArrayBuf = rows
        .iter()
        .map(|row| {
            let mut document = rawdoc! { "_id": row.id };
            for element in &bson::serialize_to_raw_document_buf(row).unwrap() {
                let (name, field) = element.unwrap();
                document.append(name, field);
            }
            rawdoc! { "q": { "_id": row.id }, "u": document, "upsert": true }
        })
        .collect();
    let command: RawDocumentBuf = rawdoc! {
        "update": "by_hand", "ordered": false, "updates": updates, "writeConcern": { "w": "majority" }
    };
    let reply = database.run_raw_command(command).await.unwrap();
    assert!(!reply.contains_key("writeErrors"));
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    *seconds.get(seconds.len() / 2).unwrap()
}

#[tokio::test]
#[ignore = "prints figures; run it alone, with --release and --nocapture"]
async fn sink_beside_a_command_by_hand() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        let (mut sink_seconds, mut hand_seconds) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let notes = format!("{round:0200}");
            let rows: Vec<Player> = (0..ROWS).map(|n| Player { notes: notes.clone(), ..Player::new(n) }).collect();
            let whole = batch(&rows, &[]);
            let start = Instant::now();
            sink.write(&whole).await.unwrap();
            sink_seconds.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            by_hand(&database, &rows).await;
            hand_seconds.push(start.elapsed().as_secs_f64());
        }
        let (sink, hand) = (median(sink_seconds), median(hand_seconds));
        eprintln!(
            "batches of {ROWS}: sink {:.0} rows/s, by hand {:.0} rows/s, ratio {:.2}",
            ROWS as f64 / sink,
            ROWS as f64 / hand,
            hand / sink
        );
    })
    .await;
}

/// Two batches at a time, as an engine writes them; every partition occurs in each.
async fn two_at_a_time(sink: &MongoSink, pairs: &[[Batch<Player>; 2]]) -> (f64, usize) {
    let start = Instant::now();
    let mut again = 0;
    for [one, other] in pairs {
        let write = async |batch| {
            let mut again = 0;
            while let Err(error) = sink.write(batch).await {
                assert_eq!(error.kind(), ErrorKind::Transient, "{}", error.chain());
                again += 1;
            }
            again
        };
        let (first, second) = tokio::join!(write(one), write(other));
        again += first + second;
    }
    (start.elapsed().as_secs_f64(), again)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; run it alone, with --release and --nocapture"]
async fn two_batches_at_a_time_with_and_without_fences() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        let partitions: u16 = std::env::var("PARTITIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(16);
        let mut fences = Vec::new();
        for partition in 0..partitions {
            fences.push(
                Sink::<Player>::fence(&sink, &Scope::new("test", "players", 16), partition).await.unwrap().unwrap(),
            );
        }
        let mut state = 0_u64;
        // A state of its own each time: a row that does not change costs less.
        let mut pairs = |fences: &[Fence]| -> Vec<[Batch<Player>; 2]> {
            state += 1;
            let notes = format!("{state:0200}");
            let rows = |from: i64| -> Vec<Player> {
                (from..from + ROWS).map(|n| Player { notes: notes.clone(), ..Player::new(n) }).collect()
            };
            (0..2).map(|pair| [0, ROWS].map(|n| fenced(fences, &rows(pair * 2 * ROWS + n), &[]))).collect()
        };
        let (mut with, mut without, mut alone, mut again) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            without.push(two_at_a_time(&sink, &pairs(&[])).await.0);
            let (seconds, repeated) = two_at_a_time(&sink, &pairs(&fences)).await;
            with.push(seconds);
            again += repeated;
            let whole = pairs(&fences);
            let start = Instant::now();
            for batch in whole.iter().flatten() {
                sink.write(batch).await.unwrap();
            }
            alone.push(start.elapsed().as_secs_f64());
        }
        let rows = 4.0 * ROWS as f64;
        let [with, without, alone] = [with, without, alone].map(median);
        eprintln!(
            "two batches of {ROWS} in {partitions} partitions: fenced {:.0} rows/s, not fenced {:.0}, ratio {:.2}; \
             one after the other, fenced {:.0}; {again} repetitions",
            rows / with,
            rows / without,
            without / with,
            rows / alone,
        );
    })
    .await;
}
