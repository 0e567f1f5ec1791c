//! What the derive says of mistakes. A package of its own: trybuild builds its dependencies once more, so there are few.

#[test]
fn mistakes_are_said_at_once_and_where_they_are() {
    trybuild::TestCases::new().compile_fail("fail/*.rs");
}
