//! The conformance suite of sinks.

use write_behind::testing::{Specimen, sink};

use crate::databases::Database;
use crate::entities::create;

entity! {
    pub(crate) struct Plain in "conf_plain" {
        keys { id: i64 }
        name: String,
        score: i32,
        note: Option<String>,
    }
}

entity! {
    pub(crate) struct Composite in "conf_composite" {
        keys { tenant: i64, slug: String }
        round: i64,
    }
}

impl Specimen for Plain {
    fn specimen(n: u64) -> Self {
        let note = n.is_multiple_of(3).then(|| format!("note {n}"));
        Self { id: i64::try_from(n).unwrap() + 1, name: format!("naïve \u{1f980} '{n}'"), score: 0, note }
    }

    fn revise(&self, round: u64) -> Self {
        Self { score: i32::try_from(round).unwrap(), note: round.is_multiple_of(2).then(String::new), ..self.clone() }
    }
}

impl Specimen for Composite {
    fn specimen(n: u64) -> Self {
        Self { tenant: i64::try_from(n % 7).unwrap(), slug: format!("S:{n}"), round: 0 }
    }

    fn revise(&self, round: u64) -> Self {
        Self { round: i64::try_from(round).unwrap(), ..self.clone() }
    }
}

async fn a_single_key(database: Database) {
    create::<Plain>(&database.sink).await;
    sink::all::<Plain>(&database.sink).await;
}

async fn a_composite_key(database: Database) {
    create::<Composite>(&database.sink).await;
    sink::all::<Composite>(&database.sink).await;
}

async fn a_version_that_guards(database: Database) {
    create::<Versioned>(&database.sink).await;
    sink::all::<Versioned>(&database.sink).await;
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
#[wb(name = "conf_versioned", table = "conf_versioned")]
struct Versioned {
    #[wb(key)]
    tenant: i64,
    // In the middle, because MySQL sets columns one after the other.
    #[wb(version)]
    version: u32,
    #[wb(key)]
    slug: String,
    text: Option<String>,
    #[wb(insert_only)]
    made: i64,
}

impl Specimen for Versioned {
    fn specimen(n: u64) -> Self {
        Self { tenant: i64::try_from(n % 7).unwrap(), version: 0, slug: format!("v{n}"), text: None, made: 7 }
    }

    fn revise(&self, round: u64) -> Self {
        Self { version: u32::try_from(round).unwrap(), text: Some(format!("round {round}")), ..self.clone() }
    }
}

async fn a_refused_record(database: Database) {
    create::<Refusing>(&database.sink).await;
    sink::refuses(&database.sink, Refusing { id: u64::MAX, ratio: f64::NAN }).await;
}

entity! {
    pub(crate) struct Refusing in "conf_refusing" {
        keys { id: u64 }
        ratio: f64,
    }
}

impl Specimen for Refusing {
    fn specimen(n: u64) -> Self {
        Self { id: n + 1, ratio: 0.5 }
    }

    fn revise(&self, round: u64) -> Self {
        Self { ratio: round as f64, ..self.clone() }
    }
}

on_every_database!(a_single_key, a_composite_key, a_version_that_guards, a_refused_record);
