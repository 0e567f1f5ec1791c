//! The floors of wb-core: a folder imports only from lower floors, so there is no circle between folders, and what a reader must
//! know of one is below it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::say;

/// The folders (and files) of `wb-core/src`, the lowest first.
const FLOORS: &[&str] = &[
    "fault",
    "entity",
    "error",
    "options",
    "telemetry",
    "sink",
    "buffer",
    "near_cache",
    "runtime",
    "sink_gate",
    "ownership",
    "relations",
    "read",
    "write",
    "flush",
    "receipts",
    "entity_runtime",
    "api",
    "engine",
    "testing",
];

/// Names at the root of the crate that are no folder: what `lib.rs` exports for macros, and the root itself.
const ROOT: &[&str] = &["lib"];

/// Says what goes up. The exit code is that of a check.
pub(crate) fn run() -> Result<ExitCode> {
    let found = violations(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../wb-core/src"))?;
    for line in &found {
        say::progress(format!("{line}, which is on no lower floor"));
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Imports that go up, or sideways to a folder that is not in the list: a line each.
fn violations(source: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in files(source)? {
        let inside = file.strip_prefix(source).context("a file outside of its folder")?;
        let own = inside.iter().next().and_then(|first| Path::new(first).file_stem()).and_then(|name| name.to_str());
        let own = own.context("a file without a name")?;
        if ROOT.contains(&own) {
            continue;
        }
        let Some(floor) = floor(own) else { bail!("`{own}` is on no floor: add it to `xtask/src/layers.rs`") };
        for name in imports(&std::fs::read_to_string(&file)?) {
            // A name that `lib.rs` exports is no folder, and is for users of the crate.
            if name != own && self::floor(&name).is_none_or(|below| below >= floor) {
                found.push(format!("{} imports `crate::{name}`", inside.display()));
            }
        }
    }
    Ok(found)
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| *floor == name)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// First segments behind `crate::` in the code of a file, its unit tests and comments left out.
fn imports(text: &str) -> Vec<String> {
    let code: String = text
        .split("#[cfg(test)]\nmod tests")
        .take(1)
        .flat_map(str::lines)
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        if before.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == '$') {
            continue;
        }
        let rest = code.get(at + "crate::".len()..).unwrap_or_default();
        match rest.strip_prefix('{') {
            Some(group) => {
                let mut depth = 0;
                let mut name = String::new();
                for char in group.chars() {
                    match char {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                        char if depth == 0 => name.push(char),
                        _ => {}
                    }
                }
                names.push(name);
            }
            None => names.push(rest.to_owned()),
        }
    }
    let first = |name: &String| {
        name.trim().split(|char: char| !char.is_alphanumeric() && char != '_').next().map(str::to_owned)
    };
    names.iter().filter_map(first).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_of_wb_core_imports_only_from_lower_floors() -> Result<()> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wb-core/src");
        assert_eq!(violations(&source)?, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn imports_are_found_in_groups_and_paths_and_not_in_comments_and_tests() {
        let text = "use crate::{a, b::{c, d}, e};\n// crate::f\nfn g() { crate::h::i() }\nmy_crate::j();\n$crate::k!();\n\
                    #[cfg(test)]\nmod tests { use crate::l; }";
        assert_eq!(imports(text), ["a", "b", "e", "h"]);
    }
}
