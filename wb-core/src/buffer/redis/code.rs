//! The code of a server's error, also of one that came up inside a script.
//!
//! Up to version 6.2 a script that fails has the code `ERR`, and the code of the command that failed in it stands in the text:
//! `Error running script (call to f_…): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.`
//! Newer servers pass the code on.

use redis::{RedisError, ServerError};

const IN_SCRIPT: &str = "Error running script (call to ";
const PLACE: &str = "@user_script:";

/// The code that an error is judged by; `None` when no server said it.
pub(super) fn of(error: &RedisError) -> Option<&str> {
    error.code().map(|code| inner(code, error.detail()))
}

/// The code that a reply is judged by.
pub(super) fn of_reply(error: &ServerError) -> &str {
    inner(error.code(), error.details())
}

fn inner<'a>(code: &'a str, detail: Option<&'a str>) -> &'a str {
    let found = detail.filter(|_| code == "ERR").and_then(|detail| detail.strip_prefix(IN_SCRIPT)).and_then(in_script);
    found.unwrap_or(code)
}

/// The code behind the places that a failed script names; none when it is the script itself that failed.
fn in_script(text: &str) -> Option<&str> {
    let (_, mut rest) = text.split_once("): ")?;
    let mut places = 0;
    while let Some(place) = rest.strip_prefix(PLACE) {
        let line = place.trim_start();
        let text = line.trim_start_matches(|c: char| c.is_ascii_digit());
        rest = text.strip_prefix(": ").filter(|_| text.len() < line.len())?;
        places += 1;
    }
    let word = rest.strip_prefix('-').unwrap_or(rest).split(' ').next()?;
    (places > 0 && word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::inner;

    #[test]
    fn the_code_inside_a_script_counts() {
        let script = |text: &str| format!("Error running script (call to f_0a1b): {text}");
        for (code, text, expected) in [
            (
                "ERR",
                script("@user_script:1: @user_script: 1: -READONLY You can't write against a read only replica."),
                "READONLY",
            ),
            (
                "ERR",
                script("@user_script:12: @user_script: 12: -OOM command not allowed when used memory > 'maxmemory'."),
                "OOM",
            ),
            ("ERR", script("@user_script: 3: -MISCONF Redis is configured to save RDB snapshots"), "MISCONF"),
            ("ERR", script("@user_script:7: -NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
            (
                "ERR",
                script("@user_script:2: WRONGTYPE Operation against a key holding the wrong kind of value"),
                "WRONGTYPE",
            ),
            ("ERR", script("@user_script:2: @user_script: 2: WRONGTYPE Operation against a key"), "WRONGTYPE"),
            // The script itself failed, or a command in it as such.
            ("ERR", script("@user_script:9: user_script:9: attempt to compare number with nil"), "ERR"),
            ("ERR", script("@user_script:9: ERR value is not an integer or out of range"), "ERR"),
            ("ERR", script("@user_script:9: I READONLY"), "ERR"),
            ("ERR", script("READONLY"), "ERR"),
            ("ERR", script("@user_script:READONLY"), "ERR"),
            // Not from a script, whatever it says.
            ("ERR", "unknown command '@user_script:1: -READONLY x'".to_owned(), "ERR"),
            (
                "READONLY",
                "You can't write against a read only replica. script: 0a1b, on @user_script:1.".to_owned(),
                "READONLY",
            ),
            ("WRONGTYPE", script("@user_script:1: -READONLY x"), "WRONGTYPE"),
        ] {
            assert_eq!(inner(code, Some(&text)), expected, "{code} {text}");
        }
        assert_eq!(inner("ERR", None), "ERR");
    }
}
