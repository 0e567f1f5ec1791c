//! Workers of newer programs come first: while one is alive, those of older ones leave the entity to it. They cannot flush
//! everything that a newer program writes, and it can flush what they write.

/// Stands between a worker's name and the age of its shape.
const SINCE: char = '@';

/// The name of a worker whose struct's shape was first seen then.
pub(crate) fn worker(owner: &str, since_ms: u64) -> String {
    format!("{owner}{SINCE}{since_ms}")
}

fn since_ms(worker: &str) -> u64 {
    worker.rsplit_once(SINCE).and_then(|(_, since_ms)| since_ms.parse().ok()).unwrap_or(0)
}

/// Those of these workers that have the newest shape.
pub(crate) fn only(mut workers: Vec<String>) -> Vec<String> {
    let newest = workers.iter().map(|worker| since_ms(worker)).max();
    workers.retain(|worker| Some(since_ms(worker)) == newest);
    workers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_left() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(only(names(&["a@1", "b@2", "c@2", "d"])), names(&["b@2", "c@2"]));
        assert_eq!(only(names(&["a", "b@x"])), names(&["a", "b@x"]), "nobody says");
        assert_eq!(only(Vec::new()), names(&[]));
        assert_eq!(since_ms(&worker("o", 17)), 17);
    }
}
