//! Entities of tests that have the key `id` and are stored as JSON.

/// `json_entity!(Line, "line")`; other constants of the trait come behind the name: `json_entity!(Line, "line", const APPEND: bool = true;)`.
macro_rules! json_entity {
    ($entity:ty, $name:literal $(, $($constants:tt)*)?) => {
        impl wb_core::Entity for $entity {
            type Key = u64;
            const NAME: &'static str = $name;
            const FORMAT: wb_core::Format = wb_core::Format::Json;
            $($($constants)*)?

            fn key(&self) -> u64 {
                self.id
            }

            fn encode(&self) -> Result<Vec<u8>, wb_core::CodecError> {
                wb_core::codec::encode(Self::FORMAT, self)
            }

            fn decode(payload: &[u8]) -> Result<Self, wb_core::CodecError> {
                wb_core::codec::decode(Self::FORMAT, payload)
            }
        }
    };
}
