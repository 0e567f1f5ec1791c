//! Dead letters: records that the sink refuses for a reason of their own data.

use serde::{Deserialize, Serialize};

use crate::buffer::record::Record;
use crate::buffer::transaction::Mark;
use crate::entity::key::Id;

/// A page of the dead letters of one partition.
#[derive(Clone, Debug)]
pub struct Letters {
    /// Where to go on; 0 at the end.
    pub cursor: u64,
    /// The letters.
    pub letters: Vec<(Id, DeadLetter)>,
}

/// What became of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replay {
    /// The payload is dirty again, and the letter gone.
    Again,
    /// A newer state of the key is on its way to the sink. The letter stays until that is settled: flushed, it removes
    /// the letter; dead, it takes the letter's place.
    Superseded,
    /// There is no such letter.
    Absent,
}

/// What became of a replay of several letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// One for each id that was asked for, in their order.
    pub outcomes: Vec<Replay>,
    /// Letters of other ids that came back because they belong [together](DeadLetter::together) with one of these.
    pub others: u64,
}

/// What letters have in common whose records died as one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Together {
    /// Names the unit; used once.
    pub mark: Mark,
    /// The partitions that its letters are in.
    pub partitions: Vec<u16>,
}

/// What was to be done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Operation {
    /// The row was to be written.
    Upsert,
    /// The row was to be deleted.
    Delete,
}

/// A record that cannot be flushed, and why. Stored as JSON, so that it can be read with `redis-cli`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The payload as it was buffered.
    #[serde(with = "payload_text")]
    pub payload: Vec<u8>,
    /// What was to be done.
    pub operation: Operation,
    /// What was said, sources included.
    pub error: String,
    /// Kind of the error: `rejected`, `deferred`, `undecodable`, `misplaced` or `hook` (the `before_flush` hook cannot take
    /// it); `grouped` for what is kept out of the sink by another record of its transaction, which is one of the last
    /// three; `corrupt` for what another program has
    /// left among the letters.
    pub kind: String,
    /// How often it was tried.
    pub attempts: u32,
    /// First refusal, milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// Last refusal, milliseconds since the Unix epoch.
    pub last_ms: u64,
    /// With which letters it comes back: those of the records that transactions have written together. `None` for a record
    /// that died alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<Together>,
}

impl DeadLetter {
    /// The letter of a record that was refused.
    #[must_use]
    pub fn new(record: &Record, kind: &str, error: String, attempts: u32, first_ms: u64, last_ms: u64) -> Self {
        Self {
            payload: record.as_bytes().to_vec(),
            operation: if record.is_tombstone() { Operation::Delete } else { Operation::Upsert },
            error,
            kind: kind.to_owned(),
            attempts,
            first_ms,
            last_ms,
            together: None,
        }
    }

    /// What stands in for a letter that cannot be read, so that it can be seen and discarded. Its payload is the text
    /// that was found.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only a buffer shared with other programs needs it"))]
    pub(crate) fn corrupt(found: &[u8], error: String) -> Self {
        Self {
            payload: found.to_vec(),
            operation: Operation::Upsert,
            error,
            kind: Self::CORRUPT.to_owned(),
            attempts: 0,
            first_ms: 0,
            last_ms: 0,
            together: None,
        }
    }

    /// Kind of [`corrupt`](Self::corrupt) letters.
    pub(crate) const CORRUPT: &'static str = "corrupt";
}

/// Payloads that are text stay readable; others are written as `hex:…`.
mod payload_text {
    use std::fmt::Write as _;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    const HEX: &str = "hex:";

    pub(crate) fn serialize<S: Serializer>(payload: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(payload) {
            Ok(text) if !text.starts_with(HEX) => serializer.serialize_str(text),
            _ => {
                let mut text = String::with_capacity(HEX.len() + payload.len() * 2);
                text.push_str(HEX);
                for byte in payload {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{byte:02x}");
                }
                serializer.serialize_str(&text)
            }
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Some(hex) = text.strip_prefix(HEX) else {
            return Ok(text.into_bytes());
        };
        let digits = hex.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return Err(D::Error::custom("odd number of hex digits"));
        }
        digits
            .chunks_exact(2)
            .map(|pair| {
                std::str::from_utf8(pair)
                    .ok()
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                    .ok_or_else(|| D::Error::custom("not a hex digit"))
            })
            .collect()
    }

    #[cfg(test)]
    mod tests {
        use crate::buffer::record::Record;
        use crate::buffer::{DeadLetter, Mark, Together};

        #[test]
        fn any_payload_survives_as_json() -> Result<(), serde_json::Error> {
            for payload in [&b"{\"a\":1}"[..], b"", b"\xff\x00\xc1", b"hex:00"] {
                let letter = DeadLetter::new(&Record::from_bytes(payload.to_vec()), "rejected", "no".into(), 1, 2, 3);
                let back: DeadLetter = serde_json::from_str(&serde_json::to_string(&letter)?)?;
                assert_eq!(back, letter);
            }
            Ok(())
        }

        #[test]
        fn a_letter_without_a_unit_is_written_and_read_as_ever() -> Result<(), serde_json::Error> {
            let mut letter = DeadLetter::new(&Record::from_bytes("1"), "rejected", "no".into(), 1, 2, 3);
            let old = r#"{"payload":"1","operation":"upsert","error":"no","kind":"rejected","attempts":1,"first_ms":2,"last_ms":3}"#;
            assert_eq!(serde_json::to_string(&letter)?, old);
            assert_eq!(serde_json::from_str::<DeadLetter>(old)?, letter);
            let mark = Mark::fresh();
            letter.together = Some(Together { mark, partitions: vec![1, 2] });
            let text = serde_json::to_string(&letter)?;
            assert!(text.contains(&format!(r#""mark":"{mark}""#)), "as scripts look for it: {text}");
            assert_eq!(serde_json::from_str::<DeadLetter>(&text)?, letter);
            Ok(())
        }
    }
}
