//! Rows per second of the sink beside a hand-written `update` command; a figure to look at, not a test.

use std::time::Instant;

use mongodb::Database;
use mongodb::bson::{RawArrayBuf, RawDocumentBuf, rawdoc};
use write_behind::Sink;

use crate::entities::Player;
use crate::server::{batch, on_replica_set, opened};

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
