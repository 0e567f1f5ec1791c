//! What the derive says of mistakes, and that its output compiles in hostile surroundings.

#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.pass("derive/ui/pass/*.rs");
    cases.compile_fail("derive/ui/fail/*.rs");
}
