//! Our own rules of style and purity, as a test.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Words that must not stand in the pure parts: the outside world.
const IMPURE: [&str; 14] = [
    "tokio",
    "zbus",
    "neli",
    "socket2",
    "rustix",
    "libc",
    "std::fs",
    "std::io",
    "std::net::Udp",
    "std::time::Instant",
    "SystemTime",
    "std::thread",
    "crate::host",
    "crate::links",
];

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the source tree is readable") {
            let path = entry.expect("the source tree is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn all() -> Vec<(PathBuf, String)> {
    [sources("src"), sources("tests"), sources("fuzz/targets")].concat()
}

#[test]
fn the_heart_and_the_wire_are_pure() {
    let mut wrong = Vec::new();
    for (path, text) in [sources("src/cluster"), sources("src/wire")].concat() {
        let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (number, line) in code {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "the outside world in a pure part:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = all().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "no `//!` at the top of {silent:?}");
}

#[test]
fn files_and_functions_stay_readable() {
    let mut wrong = Vec::new();
    for (path, text) in all() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        let mut begun: Option<(usize, usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let word = line.trim_start();
            let opens = ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "async fn ", "pub async fn "];
            if opens.iter().any(|open| word.starts_with(open)) && begun.is_none() && !word.ends_with(';') {
                begun = Some((number, indent, word.to_owned()));
            }
            if let Some((start, at, name)) = &begun {
                if word.starts_with('}') && indent == *at {
                    if number - start + 1 > FUNCTION_LINES_MAX {
                        wrong.push(format!("{}:{}: {} lines: {name}", path.display(), start + 1, number - start + 1));
                    }
                    begun = None;
                } else if number == *start && word.ends_with('}') {
                    begun = None;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "too long:\n{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_to_do_and_nothing_is_silenced_without_a_reason() {
    let mut wrong = Vec::new();
    for (path, text) in all().into_iter().filter(|(path, _)| !path.ends_with("tests/tidy.rs")) {
        for (number, line) in text.lines().enumerate() {
            let silenced = line.contains("[allow(") && !line.contains("//") && !line.contains("reason");
            let left = ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX"].iter().any(|word| line.contains(word));
            if silenced || left {
                wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
