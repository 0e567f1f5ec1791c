//! What is found wrong, or worth knowing, about a buffer and a sink before anything runs.

use std::fmt;

use crate::error::buffer::BufferError;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Works, but a promise is weaker than it could be; the text says which and what to do.
    Warning,
    /// An engine does not start like this. One that started while a sink was away takes no writes of its entity.
    Fatal,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Fatal => "fatal",
        })
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable word for programs: `eviction-policy`, `missing-column`, …
    pub code: &'static str,
    /// What it is about: `redis`, or ``entity `post` ``.
    pub subject: String,
    /// What was found, what it means, what to do.
    pub text: String,
}

impl Finding {
    /// Worth knowing.
    pub fn note(code: &'static str, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Note, code, subject: subject.into(), text: text.into() }
    }

    /// A promise is weaker than it could be.
    pub fn warning(code: &'static str, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::note(code, subject, text) }
    }

    /// An engine does not start like this.
    pub fn fatal(code: &'static str, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Fatal, ..Self::note(code, subject, text) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}: {}", self.severity, self.code, self.subject, self.text)
    }
}

/// Broken partitions that are told one by one.
const TOLD: usize = 8;

/// Partitions of an entity that cannot be used.
pub(crate) fn broken(entity: &str, partitions: &[(u16, BufferError)]) -> Vec<Finding> {
    let finding = |text: String| Finding::warning("broken-partition", format!("entity `{entity}`"), text);
    let mut findings: Vec<Finding> = partitions
        .iter()
        .take(TOLD)
        .map(|(_, error)| {
            finding(format!("{error}; what is dirty there waits: look what it is, then delete the key or rename it"))
        })
        .collect();
    if let Some(more @ 1..) = partitions.len().checked_sub(TOLD) {
        findings.push(finding(format!("{more} more partitions cannot be used")));
    }
    findings
}

/// The fatal ones, in one text.
pub(crate) fn fatal(findings: &[Finding]) -> Option<String> {
    let fatal: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Fatal)
        .map(|finding| format!("{}: {}", finding.subject, finding.text))
        .collect();
    (!fatal.is_empty()).then(|| fatal.join("; "))
}
