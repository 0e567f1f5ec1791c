//! Payloads become values, whatever the struct does.

use crate::entity::Entity;
use crate::entity::codec::CodecError;

/// A payload on which the struct's own code panics is one that does not decode: it must not stop all others.
pub(crate) fn decode_payload<E: Entity>(payload: &[u8]) -> Result<E, CodecError> {
    std::panic::catch_unwind(|| E::decode(payload)).unwrap_or_else(|_| {
        let source = "the payload makes the struct's decoder panic".into();
        Err(CodecError::Decode { format: E::FORMAT, source })
    })
}
