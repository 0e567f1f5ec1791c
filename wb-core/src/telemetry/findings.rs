//! What is found about the buffer and the sinks, as it is known now.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::finding::Finding;

/// Findings that change while somebody reads them: each change is a list of its own, and older ones are kept, because they may
/// have been lent out. Only what is rare may change them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    first: List,
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct List {
    findings: Vec<Finding>,
    next: OnceLock<Box<Self>>,
}

impl Findings {
    pub(crate) fn new(findings: Vec<Finding>) -> Self {
        Self { first: List { findings, next: OnceLock::new() }, turn: Mutex::default() }
    }

    /// The newest list.
    pub(crate) fn now(&self) -> &[Finding] {
        &self.newest().findings
    }

    fn newest(&self) -> &List {
        let mut list = &self.first;
        while let Some(next) = list.next.get() {
            list = next;
        }
        list
    }

    /// Puts `new` ones in the place of `old` ones.
    pub(crate) fn replace(&self, old: &[Finding], new: &[Finding]) {
        if old == new {
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = self.newest();
        let kept = newest.findings.iter().filter(|finding| !old.contains(finding));
        let findings = kept.chain(new).cloned().collect();
        // Nobody else has the turn, so it is empty.
        let _ = newest.next.set(Box::new(List { findings, next: OnceLock::new() })).is_ok();
    }
}

impl Drop for Findings {
    fn drop(&mut self) {
        // One after the other: a long chain that drops itself would use up the stack.
        let mut next = self.first.next.take();
        while let Some(mut list) = next {
            next = list.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_replaces_its_own_findings_and_leaves_what_was_lent_out() {
        let finding = |text: &str| Finding::note("code", "subject", text);
        let (other, away, fit) = (finding("other"), finding("away"), finding("fit"));
        let findings = Findings::new(vec![away.clone(), other.clone()]);
        let lent = findings.now();
        findings.replace(std::slice::from_ref(&away), std::slice::from_ref(&fit));
        assert_eq!(lent, [away.clone(), other.clone()]);
        assert_eq!(findings.now(), [other, fit]);
        for n in 0..100_000 {
            let (old, new) = (findings.now().to_vec(), finding(&n.to_string()));
            findings.replace(&old, &[new]);
            if n > 1_000 {
                break;
            }
        }
    }
}
