//! The manual is whole: every command, option, method, property, signal, error and permission stands in it, and every page that is
//! referred to exists.

use hafailover::dbus::permission::Permission;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn page(name: &str) -> String {
    let path = root().join("man").join(format!("{name}.md"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands behind each `before` in a text, up to the next `until`.
fn between<'a>(text: &'a str, before: &str, until: char) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(until).next()).collect()
}

#[test]
fn every_command_and_option_is_in_the_manual() {
    let manual = page("hafailoverctl.1");
    let mut missing = Vec::new();
    for command in hafailover::cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let entry = format!("**{name}**");
        let (synopsis, description) = manual.split_once("# COMMANDS").expect("the page has this part");
        if !synopsis.contains(&entry) || !description.contains(&entry) {
            missing.push(name.to_owned());
        }
        let options = command.get_arguments().filter_map(|argument| argument.get_long());
        missing.extend(
            options.filter(|long| !manual.contains(&format!("**\\--{long}**"))).map(|long| format!("{name} --{long}")),
        );
    }
    assert!(missing.is_empty(), "not in hafailoverctl(1), in both SYNOPSIS and COMMANDS: {missing:?}");
}

#[test]
fn all_of_the_bus_is_in_the_manual() {
    let manual = page("org.hafailover1.5");
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(root().join("packaging/interfaces")).expect("the source tree is readable") {
        let xml = fs::read_to_string(entry.expect("the source tree is readable").path()).expect("text");
        for kind in ["interface", "method", "property", "signal"] {
            names.extend(between(&xml, &format!("<{kind} name=\""), '"').into_iter().map(str::to_owned));
        }
    }
    assert!(names.len() > 30, "{names:?}");
    names.extend(Permission::ALL.map(|permission| permission.action().to_owned()));
    let errors = fs::read_to_string(root().join("src/dbus/error.rs")).expect("the source tree is readable");
    let errors = errors.lines().filter_map(|line| line.trim().strip_suffix("(String),"));
    names.extend(errors.map(|error| format!("{}.{error}", hafailover::dbus::ERROR_PREFIX)));
    let missing: Vec<&String> = names.iter().filter(|name| !manual.contains(&format!("**{name}**"))).collect();
    assert!(missing.is_empty(), "not in org.hafailover1(5): {missing:?}");
}

#[test]
fn every_page_that_is_referred_to_exists() {
    let mut wrong = Vec::new();
    let mut referring = vec![root().join("packaging/hafailover.catalog"), root().join("README.md")];
    for folder in ["man", "units"] {
        let entries = fs::read_dir(root().join(folder)).expect("the source tree is readable");
        referring.extend(entries.map(|entry| entry.expect("the source tree is readable").path()));
    }
    for path in referring {
        let text = fs::read_to_string(&path).expect("text").replace(['*', '`'], "");
        for (at, _) in text.match_indices('(') {
            let name: String =
                text[..at].chars().rev().take_while(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).collect();
            let name: String = name.chars().rev().collect();
            let section = text[at + 1..].split(')').next().unwrap_or_default();
            let ours = name.starts_with("hafailover") || name.starts_with("org.hafailover");
            if ours && section.parse::<u8>().is_ok() && !root().join(format!("man/{name}.{section}.md")).exists() {
                wrong.push(format!("{}: {name}({section})", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "no such page: {wrong:#?}");
}

#[test]
fn each_section_of_the_manual_has_a_page_and_each_page_its_parts() {
    let mut sections = Vec::new();
    for entry in fs::read_dir(root().join("man")).expect("the source tree is readable") {
        let path = entry.expect("the source tree is readable").path();
        let stem = path.file_stem().expect("every page has a name").to_string_lossy().into_owned();
        let (name, section) = stem.rsplit_once('.').expect("its name ends with its section");
        let text = fs::read_to_string(&path).expect("text");
        assert!(text.starts_with(&format!("% {}({section}) hafailover | ", name.to_uppercase())), "{stem}");
        for part in ["# NAME", "# SEE ALSO"] {
            assert!(text.contains(&format!("\n{part}\n")), "{stem} has no {part}");
        }
        sections.push(section.to_owned());
    }
    sections.sort();
    sections.dedup();
    assert_eq!(sections, ["1", "5", "7", "8"]);
}
