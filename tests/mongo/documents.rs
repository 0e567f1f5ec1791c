//! The shape of stored documents beside the fields: `_id`, order, strictness, rows of other programs.

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use write_behind::{CacheError, Engine, EntityOptions, ErrorKind, MemoryBuffer, Sink};

use crate::entities::{Membership, Player, Renamed, Strict};
use crate::server::{batch, on_replica_set, opened, stored};

#[tokio::test]
async fn a_composite_key_is_a_sub_document() {
    on_replica_set(|database| async move {
        let sink = opened::<Membership>(&database).await;
        let row = Membership { team: "a:b\\c".to_owned(), member: 7, role: "guest".to_owned() };
        sink.write(&batch(std::slice::from_ref(&row), &[])).await.unwrap();
        let document = stored::<Membership>(&database, &("a:b\\c".to_owned(), 7)).await.unwrap();
        assert_eq!(
            Document::try_from(document).unwrap(),
            doc! { "_id": { "team": "a:b\\c", "member": 7 }, "team": "a:b\\c", "member": 7, "role": "guest" }
        );
        let typed = database.collection::<Membership>("memberships");
        assert_eq!(typed.find_one(doc! { "_id.team": "a:b\\c" }).await.unwrap(), Some(row));
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_the_id_already_is_stored_once() {
    on_replica_set(|database| async move {
        let sink = opened::<Renamed>(&database).await;
        let row = Renamed { name: "n".to_owned(), id: 5 };
        sink.write(&batch(std::slice::from_ref(&row), &[])).await.unwrap();
        let document = stored::<Renamed>(&database, &5).await.unwrap();
        assert_eq!(Document::try_from(document).unwrap(), doc! { "_id": 5, "name": "n" });
        // A row that the user's own code inserted is overwritten, not doubled.
        let typed = database.collection::<Renamed>("renamed");
        typed.insert_one(&Renamed { name: "theirs".to_owned(), id: 6 }).await.unwrap();
        sink.write(&batch(&[Renamed { name: "ours".to_owned(), id: 6 }], &[row])).await.unwrap();
        let all: Vec<Renamed> = Sink::<Renamed>::load(&sink, &[5, 6]).await.unwrap();
        assert_eq!(all, [Renamed { name: "ours".to_owned(), id: 6 }]);
        assert_eq!(typed.count_documents(doc! {}).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_struct_that_denies_unknown_fields_is_loaded() {
    on_replica_set(|database| async move {
        let sink = opened::<Strict>(&database).await;
        let row = Strict { id: 1, name: "n".to_owned() };
        sink.write(&batch(std::slice::from_ref(&row), &[])).await.unwrap();
        assert_eq!(Sink::<Strict>::load(&sink, &[1]).await.unwrap(), [row]);
    })
    .await;
}

#[tokio::test]
async fn a_document_that_is_no_value_is_refused_by_its_id() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        sink.write(&batch(&Player::range(1..4), &[])).await.unwrap();
        let raw = database.collection::<RawDocumentBuf>("players");
        raw.update_one(doc! { "_id": 2_i64 }, doc! { "$set": { "score": "many" } }).await.unwrap();
        let error = Sink::<Player>::load(&sink, &[1, 2, 3]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.to_string().contains("document 2 of collection `players`"), "{}", error.chain());
        let others: Vec<Player> = Sink::<Player>::load(&sink, &[1, 3]).await.unwrap();
        assert_eq!(others.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn opening_creates_the_collection_and_leaves_one_that_is_there_alone() {
    on_replica_set(|database| async move {
        database.create_collection("players").validator(doc! { "score": { "$lt": 10 } }).await.unwrap();
        let sink = opened::<Player>(&database).await;
        opened::<Membership>(&database).await;
        opened::<Player>(&database).await;
        let mut names = database.list_collection_names().await.unwrap();
        names.sort();
        assert_eq!(names, ["memberships", "players", "wb_fence"]);
        let players =
            database.run_command(doc! { "listCollections": 1, "filter": { "name": "players" } }).await.unwrap();
        assert!(Bson::Document(players).to_string().contains("validator"));
        assert_eq!(sink.database().name(), database.name());
    })
    .await;
}

/// One document of another program that is no value of the struct.
#[tokio::test]
async fn a_document_that_cannot_be_read_costs_its_own_key() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        sink.write(&batch(&Player::range(0..50), &[])).await.unwrap();
        let change = doc! { "$set": { "score": 1.5 } };
        database
            .collection::<Document>("players")
            .update_many(doc! { "_id": { "$in": [7, 31] } }, change)
            .await
            .unwrap();
        for transactions in [false, true] {
            let options = EntityOptions::new().transactions(transactions);
            let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options);
            let engine = builder.start().await.unwrap();
            let cache = engine.cache::<Player>().unwrap();
            let keys: Vec<i64> = (0..60).collect();
            for (key, read) in keys.iter().zip(cache.get_each(&keys).await.unwrap()) {
                match key {
                    7 | 31 => {
                        let told = read.unwrap_err();
                        let CacheError::Sink { source } = &told else { panic!("{told:?}") };
                        assert!(
                            source.to_string().contains(&format!("document {key} of collection `players`")),
                            "{source}"
                        );
                    }
                    _ => assert_eq!(read.unwrap(), (*key < 50).then(|| Player::new(*key))),
                }
            }
            assert!(matches!(cache.get_many(&keys).await, Err(CacheError::Sink { .. })));
            assert_eq!(cache.get_many(&keys[8..20]).await.unwrap().iter().flatten().count(), 12);
        }
    })
    .await;
}
