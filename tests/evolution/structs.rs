//! The entity `account` as it changes.

/// The same structs in each format.
macro_rules! structs {
    ($format:ident, $text:literal) => {
        pub(crate) mod $format {
            use serde::{Deserialize, Serialize};
            use write_behind::WriteBehind;

            /// The first.
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
            #[wb(name = "account", table = "accounts", format = $text)]
            pub(crate) struct First {
                #[wb(key)]
                pub(crate) id: i64,
                pub(crate) owner: String,
                pub(crate) balance: i64,
            }

            /// With an optional field, and one with a default.
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
            #[wb(name = "account", table = "accounts", format = $text)]
            pub(crate) struct Added {
                #[wb(key)]
                pub(crate) id: i64,
                pub(crate) owner: String,
                pub(crate) balance: i64,
                pub(crate) note: Option<String>,
                #[serde(default = "three")]
                pub(crate) level: i32,
            }

            fn three() -> i32 {
                3
            }

            /// A field has another name, in the payload and in Rust, and is read by the old one too.
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
            #[wb(name = "account", table = "accounts", format = $text)]
            pub(crate) struct Renamed {
                #[wb(key)]
                pub(crate) id: i64,
                #[serde(alias = "owner")]
                #[wb(rename = "owner")]
                pub(crate) holder: String,
                pub(crate) balance: i64,
            }

            /// A field is gone; its column has a default.
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
            #[wb(name = "account", table = "accounts", format = $text)]
            pub(crate) struct Removed {
                #[wb(key)]
                pub(crate) id: i64,
                pub(crate) owner: String,
            }

            /// A field does not read what the old struct wrote.
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
            #[wb(name = "account", table = "accounts", format = $text)]
            pub(crate) struct Retyped {
                #[wb(key)]
                pub(crate) id: i64,
                pub(crate) owner: String,
                #[serde(deserialize_with = "from_text")]
                pub(crate) balance: i64,
            }

            fn from_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

structs!(json, "json");
structs!(msgpack, "msgpack");
