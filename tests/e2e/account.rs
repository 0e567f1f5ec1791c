//! One struct for all databases.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use write_behind::WriteBehind;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "account", table = "e2e_accounts", collection = "e2e_accounts")]
pub(crate) struct Account {
    #[wb(key)]
    pub(crate) id: i64,
    #[wb(rename = "holder")]
    pub(crate) owner: String,
    pub(crate) balance: i64,
    pub(crate) frozen: bool,
    pub(crate) note: Option<String>,
    pub(crate) seen: DateTime<Utc>,
}

impl Account {
    /// State number `n` of an account.
    pub(crate) fn state(id: i64, n: u64) -> Self {
        Self {
            id,
            owner: format!("owner of {id} – ö'\"\\"),
            balance: i64::try_from(n).unwrap() - 500,
            frozen: n.is_multiple_of(3),
            note: (!n.is_multiple_of(5)).then(|| format!("note {n}")),
            seen: DateTime::from_timestamp_millis(1_700_000_000_000 + i64::try_from(n).unwrap()).unwrap(),
        }
    }
}
