//! Shapes of an entity's struct.

use super::Bench;
use crate::buffer::{Buffer, SeenShape};

/// Shapes are listed in the order in which they were first seen, each once; a list that was lost is told again.
///
/// # Panics
/// When one is missing, is there twice, or changes its place.
pub async fn lists_shapes(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "lists shapes").await;
    let list = async |shape: &str, since_ms: Option<u64>| {
        let told: Vec<SeenShape> =
            since_ms.map(|since_ms| SeenShape::new(shape.to_owned(), since_ms)).into_iter().collect();
        let seen = bench.done("shapes", bench.space.shapes(shape, &told).await).shapes;
        assert!(seen.is_sorted_by(|a, b| a.since_ms < b.since_ms), "{}: not by time: {seen:?}", bench.check);
        seen
    };
    let names = |seen: &[SeenShape]| seen.iter().map(|seen| seen.shape.clone()).collect::<Vec<_>>();
    assert_eq!(names(&list("[\"b\"]", None).await), ["[\"b\"]"], "{}", bench.check);
    for shape in ["[\"a\"]", "*", "[\"b\"]", "[\"a\"]"] {
        list(shape, None).await;
    }
    let three = list("*", None).await;
    assert_eq!(names(&three), ["[\"b\"]", "[\"a\"]", "*"], "{}: in the order of their first time", bench.check);
    let [first, _, third] = three.as_slice() else { panic!("{}: {three:?}", bench.check) };
    assert_eq!(list("[\"a\"]", Some(third.since_ms + 9)).await, three, "{}: a later time says nothing", bench.check);

    // What is registered anew takes the place that it had.
    let again = list("[\"older\"]", Some(first.since_ms - 1)).await;
    assert_eq!(names(&again), ["[\"older\"]", "[\"b\"]", "[\"a\"]", "*"], "{}", bench.check);
    let moved = list("*", Some(1_000)).await;
    assert_eq!(
        moved.first(),
        Some(&SeenShape::new("*".to_owned(), 1_000)),
        "{}: of two times the earlier one counts",
        bench.check
    );

    // Who has seen more than the buffer remembers tells it.
    let told = [SeenShape::new("[\"c\"]".to_owned(), 2_000), SeenShape::new("*".to_owned(), 1_000)];
    let all = bench.done("shapes", bench.space.shapes("[\"a\"]", &told).await).shapes;
    let expected = ["*", "[\"c\"]", "[\"older\"]", "[\"b\"]", "[\"a\"]"];
    assert_eq!(names(&all), expected, "{}: told again", bench.check);
}

/// The list is bounded; the newest are kept.
///
/// # Panics
/// When it is longer, or one of the newest is missing.
pub async fn forgets_the_oldest_shapes(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "forgets the oldest shapes").await;
    let mut seen = Vec::new();
    for n in 0..SeenShape::MOST + 5 {
        seen = bench.done("shapes", bench.space.shapes(&format!("[\"{n:03}\"]"), &[]).await).shapes;
    }
    let names: Vec<&str> = seen.iter().map(|seen| seen.shape.as_str()).collect();
    let expected: Vec<String> = (5..SeenShape::MOST + 5).map(|n| format!("[\"{n:03}\"]")).collect();
    assert_eq!(names, expected, "{}", bench.check);
}
