//! P8: one bad record never blocks others, and an outage is no bad record.

use write_behind::ErrorKind;

use crate::account::BAD;
use crate::gate::Gate;
use crate::house::House;
use crate::store::Kind;
use crate::violation::{Kept, Sort, Violation, ensure, until};
use crate::wire::Wire;

/// The database refuses one row by a constraint of its own.
pub(crate) async fn p8_one_bad_record_never_blocks_others(house: &House) -> Kept {
    let writer = house.writer().start().await?;
    let ids: Vec<i64> = (1..=40).collect();
    let bad = 17;
    for &id in &ids {
        writer.put(id, if id == bad { BAD } else { 1 }).await?;
    }
    let _worker = house.worker().start().await?;
    house.drained().await?;
    let good: Vec<_> = ids.iter().map(|&id| (id, (id != bad).then_some(1))).collect();
    house.holds(Sort::Blocked, &good).await?;
    let dead = house.count(&["dead"]).await?;
    ensure(dead == 1, Sort::Untrue, || format!("one record is bad, {dead} are dead letters"))?;
    let letter = house.letter(bad).await?.ok_or_else(|| Violation::new(Sort::Lost, "no dead letter"))?;
    let said = |field: &str| letter.get(field).cloned().unwrap_or_default();
    ensure(said("kind") == "rejected" && said("operation") == "upsert", Sort::Untrue, || {
        format!("the letter: {letter}")
    })?;
    ensure(said("attempts") == 3, Sort::Untrue, || format!("three attempts were its budget: {letter}"))?;
    let whole = said("payload").as_str().is_some_and(|payload| payload.contains("\"state\":-1"));
    ensure(whole && !said("error").as_str().unwrap_or_default().is_empty(), Sort::Lost, || {
        format!("the letter: {letter}")
    })?;
    writer.sees(bad, Some(BAD), "as a dead letter").await?;
    // A newer good write supersedes it.
    writer.put(bad, 5).await?;
    house.drained().await?;
    house.holds(Sort::Blocked, &[(bad, Some(5))]).await?;
    let dead = house.count(&["dead"]).await?;
    ensure(dead == 0, Sort::Untrue, || "the dead letter is superseded, and still there".to_owned())
}

/// The database cannot be reached, much longer than a record's budget of attempts.
pub(crate) async fn p8_an_outage_dead_letters_nothing(house: &House) -> Kept {
    let writer = house.writer().start().await?;
    let gate = Gate::open();
    let wire = Wire::to(&house.store.address().url).await?;
    let mut worker = house.worker().gate(&gate);
    if house.store.kind != Kind::Sqlite {
        let direct = if house.store.kind == Kind::Mongo {
            // Otherwise the driver asks the replica set where it lives, and goes there past the wire.
            let server = wire.url.split('?').next().unwrap_or_default();
            format!("{server}?directConnection=true&serverSelectionTimeoutMS=50&connectTimeoutMS=200")
        } else {
            wire.url.clone()
        };
        worker = worker.database(&direct);
    }
    let _worker = worker.start().await?;
    for round in 1..=2 {
        match house.store.kind {
            Kind::Sqlite => gate.outage(Some(ErrorKind::Unavailable)),
            _ if round == 1 => wire.refuse(true),
            _ => gate.outage(Some(ErrorKind::Unavailable)),
        }
        for id in 1..=20 {
            writer.put(id, round).await?;
        }
        // The driver may take seconds to say that nobody answers; the gate says so at once, and often.
        let enough = if round == 1 && house.store.kind != Kind::Sqlite { 1 } else { 12 };
        let before = gate.failures(ErrorKind::Unavailable);
        until("the outage is met", async || Ok(gate.failures(ErrorKind::Unavailable) >= before + enough)).await?;
        nothing_is_refused(house).await?;
        wire.refuse(false);
        gate.outage(None);
        house.drained().await?;
        nothing_is_refused(house).await?;
        house.holds(Sort::Lost, &(1..=20).map(|id| (id, Some(round))).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

/// The table is missing; the entity waits for it, and goes on by itself.
pub(crate) async fn p8_a_missing_table_dead_letters_nothing(house: &House) -> Kept {
    let gate = Gate::open();
    let worker = house.worker().gate(&gate).start().await?;
    worker.put(1, 1).await?;
    house.drained().await?;
    house.store.drop_table().await?;
    for id in 2..=20 {
        worker.put(id, 1).await?;
    }
    until("the mistake is met", async || Ok(gate.failures(ErrorKind::Misconfigured) >= 5)).await?;
    nothing_is_refused(house).await?;
    house.store.create_table().await?;
    house.drained().await?;
    nothing_is_refused(house).await?;
    house.holds(Sort::Lost, &(2..=20).map(|id| (id, Some(1))).collect::<Vec<_>>()).await
}

async fn nothing_is_refused(house: &House) -> Kept {
    for what in ["dead", "attempts"] {
        let count = house.count(&[what]).await?;
        ensure(count == 0, Sort::Untrue, || format!("the sink was away, and {count} records are in `{what}`"))?;
    }
    Ok(())
}
