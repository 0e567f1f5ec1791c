//! P12: bad input gets a typed error before anything is stored; what no longer decodes is dead-lettered whole.

use write_behind::CacheError;

use crate::account::Account;
use crate::house::House;
use crate::violation::{Kept, Sort, Violation, ensure};

/// A record that is too large, alone and among good ones.
pub(crate) async fn p12_bad_input_is_refused_before_it_is_stored(house: &House) -> Kept {
    let writer = house.writer().options(|o| o.max_record_bytes(2_000)).start().await?;
    let large = Account { owner: "x".repeat(2_000), ..Account::new(2, 1) };
    let alone = writer.accounts.put(&large).await;
    let among = writer.accounts.put_many([&Account::new(1, 1), &large, &Account::new(3, 1)]).await;
    for result in [alone, among] {
        let typed = matches!(&result, Err(CacheError::TooLarge { id, limit: 2_000, .. }) if id == "2");
        ensure(typed, Sort::Untrue, || format!("a record that is too large gets {result:?}"))?;
    }
    ensure(house.dirty().await? == 0, Sort::Passed, || "it was refused, and something is stored".to_owned())?;
    for id in 1..=3 {
        writer.sees(id, None, "refused").await?;
    }
    Ok(())
}

/// What an older version of the struct wrote, or anybody else.
pub(crate) async fn p12_what_does_not_decode_is_kept_whole(house: &House) -> Kept {
    let odd = [
        (1, r#"{"id":1,"name":"an older struct"}"#, "undecodable"),
        (2, r#"{"id":2,"owner":"#, "undecodable"),
        (3, r#"{"id":4,"owner":"of another account","state":1}"#, "misplaced"),
    ];
    for (id, payload, _) in odd {
        house.ask::<u64>("HSET", &[house.key_of(id, "open")?, id.to_string(), payload.to_owned()]).await?;
    }
    let worker = house.worker().start().await?;
    for id in 10..=20 {
        worker.put(id, 1).await?;
    }
    house.drained().await?;
    house.holds(Sort::Blocked, &(10..=20).map(|id| (id, Some(1))).collect::<Vec<_>>()).await?;
    for (id, payload, kind) in odd {
        let letter = house.letter(id).await?.ok_or_else(|| Violation::new(Sort::Lost, format!("{id} was dropped")))?;
        let whole = letter.get("payload").is_some_and(|kept| kept == payload);
        ensure(whole, Sort::Lost, || format!("{payload} is kept as {letter}"))?;
        ensure(letter.get("kind").is_some_and(|said| said == kind), Sort::Untrue, || format!("not {kind}: {letter}"))?;
    }
    house.holds(Sort::Passed, &[(1, None), (2, None), (3, None), (4, None)]).await?;
    // The worker goes on, and a good write supersedes a dead letter.
    worker.put(1, 2).await?;
    house.drained().await?;
    house.holds(Sort::Blocked, &[(1, Some(2))]).await?;
    ensure(house.letter(1).await?.is_none(), Sort::Untrue, || "superseded, and still a dead letter".to_owned())
}
