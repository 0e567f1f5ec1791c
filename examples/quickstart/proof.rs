//! Reads the table without the framework and compares it with what was written.

use anyhow::ensure;
use write_behind::sql::sea_orm::{ConnectionTrait, DatabaseConnection, Statement};

use crate::game::{Last, Player};

/// Number of rows in the table, when they are exactly those that were written last.
pub(crate) async fn table_equals(db: &DatabaseConnection, last: &Last) -> anyhow::Result<usize> {
    let text = "SELECT id, name, score, best_streak, badges FROM quickstart_players ORDER BY id";
    let mut rows = Vec::new();
    for row in db.query_all_raw(Statement::from_string(db.get_database_backend(), text)).await? {
        let badges: serde_json::Value = row.try_get("", "badges")?;
        rows.push(Player {
            id: row.try_get("", "id")?,
            name: row.try_get("", "name")?,
            score: row.try_get("", "score")?,
            streak: row.try_get("", "best_streak")?,
            badges: serde_json::from_value(badges)?,
        });
    }
    let expected: Vec<&Player> = last.values().flatten().collect();
    ensure!(rows.len() == expected.len(), "{} rows, but {} players were written last", rows.len(), expected.len());
    for (row, player) in rows.iter().zip(expected) {
        ensure!(row == player, "the table holds {row:?}, but {player:?} was written last");
    }
    Ok(rows.len())
}
