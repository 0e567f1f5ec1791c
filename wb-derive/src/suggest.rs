//! "did you mean": the known word that is nearest to an unknown one.

/// The nearest known word, if one is near enough to be meant.
pub(crate) fn nearest(word: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, a swap of neighbours counting as one edit.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    // What lies outside the table is never the least.
    let at =
        |rows: &[Vec<usize>], i: usize, j: usize| rows.get(i).and_then(|row| row.get(j)).map_or(usize::MAX, |d| *d);
    for (i, left) in a.iter().enumerate() {
        rows.push(vec![i + 1]);
        for (j, right) in b.iter().enumerate() {
            let mut least = (at(&rows, i, j) + usize::from(left != right))
                .min(at(&rows, i, j + 1) + 1)
                .min(at(&rows, i + 1, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(right) && b.get(j - 1) == Some(left);
            if swapped {
                least = least.min(at(&rows, i - 1, j - 1) + 1);
            }
            if let Some(row) = rows.last_mut() {
                row.push(least);
            }
        }
    }
    at(&rows, a.len(), b.len())
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "key"), 3);
        assert_eq!(distance("kye", "key"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        assert_eq!(nearest("tabel", ["name", "table"]), Some("table"));
        assert_eq!(nearest("kye", ["key", "skip"]), Some("key"));
        assert_eq!(nearest("Json", ["json", "msgpack"]), Some("json"));
        assert_eq!(nearest("primary", ["name", "key"]), None);
    }
}
