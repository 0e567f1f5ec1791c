//! What is stored in the buffer can be read back from it as it was: what its format does not have is refused before.

#[macro_use]
mod json_entity;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wb_core::testing::ScriptedSink;
use wb_core::{CacheError, CodecError, Engine, EntityOptions, MemoryBuffer, State};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    id: u64,
    level: Option<f64>,
    more: Vec<Option<f32>>,
    tree: Value,
}

json_entity!(Reading, "reading");

impl Reading {
    fn new(id: u64) -> Self {
        Self { id, level: None, more: vec![None, Some(0.1)], tree: Value::Null }
    }
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!("{[\"null"), |tree, level| if level % 2 == 0 { json!([tree]) } else { json!({ "a": tree }) })
}

#[tokio::test(start_paused = true)]
async fn p12_what_json_does_not_have_is_refused_before_it_is_stored() {
    let sink = ScriptedSink::<Reading>::new();
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Reading>(sink.clone(), EntityOptions::new());
    let engine = builder.start().await.unwrap();
    let readings = engine.cache::<Reading>().unwrap();
    for (field, reading) in [
        ("level", Reading { level: Some(f64::NAN), ..Reading::new(1) }),
        ("level", Reading { level: Some(f64::INFINITY), ..Reading::new(2) }),
        ("more", Reading { more: vec![None, Some(f32::NEG_INFINITY)], ..Reading::new(3) }),
    ] {
        let told = readings.put(&reading).await.unwrap_err();
        let CacheError::Codec { source, .. } = &told else { panic!("{told:?}") };
        assert!(matches!(**source, CodecError::NotFinite { field: Some(named), .. } if named == field), "{source}");
        assert_eq!(readings.state(&reading.id).await.unwrap(), State::Absent);
    }
    // One level is the record's own.
    for (id, levels, stored) in [(4, 126, true), (5, 127, false), (6, 500, false)] {
        let reading = Reading { tree: nested(levels), ..Reading::new(id) };
        let told = readings.put(&reading).await;
        assert_eq!(told.is_ok(), stored, "{levels} levels: {:?}", told.err());
        assert_eq!(readings.get(&id).await.unwrap(), stored.then_some(reading));
    }
    // As wide as one likes, and whatever stands in texts.
    let wide = Reading { tree: json!([vec![json!({}); 300], "[".repeat(300)]), ..Reading::new(7) };
    readings.put(&wide).await.unwrap();
    readings.flush().await.unwrap();
    assert_eq!(sink.rows().len(), 2);
    assert_eq!(engine.dead_letters::<Reading>().unwrap().count().await.unwrap(), 0);
}
