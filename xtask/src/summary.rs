//! What a run of the tests says at its end: the doc tests print hundreds of lines after the tests that failed.

use std::fs;
use std::path::PathBuf;

/// Where nextest leaves its report, as `.config/nextest.toml` asks for it.
fn report() -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join("nextest/default/junit.xml")
}

/// Removes the report of an earlier run, which must not be taken for that of this one.
pub(crate) fn forget() {
    // Fails where there is none.
    let _ = fs::remove_file(report());
}

/// The tests that failed, `binary test`; none where there is no report.
pub(crate) fn failed_tests() -> Vec<String> {
    failed_in(&fs::read_to_string(report()).unwrap_or_default())
}

/// The failed test cases of a JUnit report: each begins with a line of its own, and one that failed has a `failure` or an
/// `error` in it.
fn failed_in(report: &str) -> Vec<String> {
    let mut failed = Vec::new();
    let mut case = None;
    for line in report.lines().map(str::trim_start) {
        if line.starts_with("<testcase ") {
            case = attribute(line, "classname").zip(attribute(line, "name"));
        } else if line.starts_with("<failure") || line.starts_with("<error") {
            failed.extend(case.take().map(|(binary, name)| format!("{binary} {name}")));
        }
    }
    failed
}

fn attribute(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(value.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

/// The text: what passed, what failed, by name, and what was not run.
pub(crate) fn of(passed: bool, failed: &[String], doc_tests: Option<bool>) -> String {
    let mut text = String::from("tests: ");
    text += match (passed, failed.len()) {
        (true, _) => "passed",
        (false, 0) => "FAILED, see above",
        (false, _) => "FAILED",
    };
    for name in failed {
        text += &format!("\n  {name}");
    }
    text += "\nxtask: doc tests: ";
    text += match doc_tests {
        Some(true) => "passed",
        Some(false) => "FAILED, see above",
        None => "not run",
    };
    text
}

#[cfg(test)]
mod tests {
    use super::{failed_in, of};

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="3" failures="1" errors="1">
    <testsuite name="wb-core" tests="3" disabled="0" errors="1" failures="1">
        <testcase name="key::good" classname="wb-core" time="0.01">
        </testcase>
        <testcase name="key::bad&lt;u8&gt;" classname="wb-core::keys" time="0.01">
            <failure message="panicked" type="test failure">a line that says &lt;testcase name=...
            </failure>
            <system-out>more</system-out>
        </testcase>
        <testcase name="key::odd" classname="wb-core" time="0.01">
            <error type="execution failure"/>
        </testcase>
    </testsuite>
</testsuites>"#;

    #[test]
    fn failed_tests_are_named() {
        assert_eq!(failed_in(REPORT), ["wb-core::keys key::bad<u8>", "wb-core key::odd"]);
        assert!(failed_in("").is_empty());
    }

    #[test]
    fn the_summary_says_what_failed_and_what_was_not_run() {
        assert_eq!(of(true, &[], Some(true)), "tests: passed\nxtask: doc tests: passed");
        let failed = ["promises p1".to_owned()];
        assert_eq!(
            of(false, &failed, Some(false)),
            "tests: FAILED\n  promises p1\nxtask: doc tests: FAILED, see above"
        );
        assert_eq!(of(false, &[], None), "tests: FAILED, see above\nxtask: doc tests: not run");
    }
}
