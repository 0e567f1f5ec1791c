//! The framework behind another path, structs made by macros, in functions and of private types.

#![deny(warnings)]

mod infra {
    pub(crate) use ::write_behind as buffer;
}

use infra::buffer::{Entity, WriteBehind};
use serde::{Deserialize, Serialize};

macro_rules! record {
    ($name:ident, $entity:literal, $id:ident: $ty:ty) => {
        #[derive(Clone, Serialize, Deserialize, WriteBehind)]
        #[wb(name = $entity, table = $entity, collection = $entity, crate = "crate::infra::buffer")]
        struct $name {
            #[wb(key)]
            $id: $ty,
        }
    };
}

record!(First, "first", id: u32);
record!(Second, "second", nr: String);

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "generic", table = "generic")]
struct Generic<'a, T, const N: usize = 1>
where
    T: Copy + 'static,
    'a: 'static,
{
    #[wb(key)]
    id: T,
    #[serde(skip)]
    #[wb(skip)]
    marker: std::marker::PhantomData<&'a [T; N]>,
}

#[test]
fn compiles_and_works() {
    #[derive(Clone, Serialize, Deserialize, WriteBehind)]
    #[wb(name = "local")]
    struct Local {
        #[wb(key)]
        id: bool,
    }

    assert_eq!(First { id: 1 }.key(), 1);
    assert_eq!(Second { nr: "x".to_owned() }.key(), "x");
    assert!(Local { id: true }.key());
    assert_eq!(Generic::<i32> { id: 5, marker: std::marker::PhantomData }.key(), 5);
}
