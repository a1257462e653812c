//! The unit of a group as systemd merges it, and its `[X-HAFailover]` section.
//! It must not know what the keys mean; only that an empty value resets a list, and that the last one wins elsewhere.

use super::problem::{Position, Problem, did_you_mean};
use super::unitfile::{Assignment, UnitFile, Value};
use super::{read, unitfile, unitpath};
use std::path::{Path, PathBuf};

pub(crate) const SECTION: &str = "X-HAFailover";

/// All files of one `hafailover-group@INSTANCE.target`, in the order in which they apply.
#[derive(Debug)]
pub(crate) struct GroupUnit {
    pub(crate) instance: String,
    pub(crate) files: Vec<UnitFile>,
    /// The unit file is a link to /dev/null, or empty: systemd loads nothing of the unit.
    masked: Option<PathBuf>,
    unreadable: Vec<Problem>,
}

/// An assignment, and the file it stands in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) file: &'a Path,
    pub(crate) assignment: &'a Assignment,
}

/// Every unit that has a file or drop-in of its own, whether it turns out to be a group or not.
pub(crate) fn read_units(search_path: &[PathBuf]) -> Vec<GroupUnit> {
    unitpath::instances(search_path).into_iter().map(|instance| read_unit(search_path, instance)).collect()
}

fn read_unit(search_path: &[PathBuf], instance: String) -> GroupUnit {
    let mut unit = GroupUnit { instance, files: Vec::new(), masked: None, unreadable: Vec::new() };
    for file in unitpath::files_of(search_path, &unit.instance) {
        match read(&file) {
            Ok(bytes) => {
                let bytes = bytes.unwrap_or_default();
                if bytes.is_empty() && file.extension().is_some_and(|extension| extension == "target") {
                    unit.masked = Some(file.clone());
                }
                unit.files.push(unitfile::parse(&file, &bytes));
            }
            Err(problem) => unit.unreadable.push(problem),
        }
    }
    unit
}

impl GroupUnit {
    /// Where the section begins first; a misspelt one counts, so that its group is refused and not forgotten.
    pub(crate) fn declared(&self) -> Option<(&Path, Position)> {
        let mut sections = self.files.iter().flat_map(|f| f.sections.iter().map(move |(name, at)| (f, name, at)));
        sections.find(|(_, name, _)| ours(name)).map(|(file, _, at)| (file.file.as_path(), *at))
    }

    /// What is wrong with the files as such. Files for units of other kinds too (`target.d`) are not ours to judge.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = self.unreadable.clone();
        let ours = self.files.iter().filter(|f| f.file.to_string_lossy().contains(unitpath::PREFIX));
        for file in ours {
            problems.extend(file.problems.iter().cloned());
            for (name, at) in &file.sections {
                if name != "Unit" && name != "Install" && name != SECTION && !foreign(name) {
                    let remedy = did_you_mean(name, &["Unit", "Install", SECTION]);
                    problems.push(Problem::new(&file.file, *at, format!("unknown section [{name}]"), remedy));
                }
            }
            if file.file.file_name().is_some_and(|name| name == crate::host::systemd::generator::DROP_IN) {
                let what = "a file of this name replaces the guard that hafailover's generator writes";
                problems.push(Problem::new(&file.file, Position::START, what, "give the file another name"));
            }
        }
        if let Some(file) = &self.masked {
            let remedy = format!("systemctl unmask {}, or remove the group's drop-ins", self.target());
            problems.push(Problem::new(file, Position::START, "the group's unit is masked", remedy));
        }
        problems
    }

    pub(crate) fn target(&self) -> String {
        unitpath::target_of(&self.instance)
    }

    pub(crate) fn entries<'a>(&'a self, section: &'a str) -> impl Iterator<Item = Entry<'a>> {
        let all =
            self.files.iter().flat_map(|f| f.assignments.iter().map(|assignment| Entry { file: &f.file, assignment }));
        all.filter(move |entry| {
            let name = &entry.assignment.section;
            name == section || (section == SECTION && ours(name))
        })
    }

    /// The values of a list, without those before the last reset.
    pub(crate) fn list(&self, key: &str) -> Vec<Entry<'_>> {
        after_last_reset(self.entries(SECTION).filter(|entry| entry.assignment.key == key).collect())
    }

    /// The value that counts; an empty one gives back the default.
    pub(crate) fn last<'a>(&'a self, section: &'a str, key: &str) -> Option<Entry<'a>> {
        let last = self.entries(section).filter(|entry| entry.assignment.key == key).last();
        last.filter(|entry| !entry.assignment.value.is_empty())
    }

    /// Every name behind a `Start=` that can be read at all: in whatever section, however the rest is broken.
    pub(crate) fn rough_members(&self) -> Vec<String> {
        let all = self.files.iter().flat_map(|f| f.assignments.iter());
        let mut members = Vec::new();
        for Assignment { section, key, value, .. } in all {
            if key.eq_ignore_ascii_case("Start") {
                if value.is_empty() {
                    members.clear();
                }
                members.extend(match value.words() {
                    Ok(words) => words.into_iter().map(|word| word.text).collect(),
                    Err(_) => value.rough_words(),
                });
            } else if ours(section) {
                members.extend(swallowed_start(value));
            }
        }
        members
    }
}

/// A backslash too many makes a `Start=` part of the line above it.
fn swallowed_start(value: &Value) -> Vec<String> {
    const START: &str = "Start=";
    let mut words = value.rough_words().into_iter().skip_while(|word| !word.starts_with(START));
    let first = words.next().map(|word| word[START.len()..].to_owned()).filter(|word| !word.is_empty());
    first.into_iter().chain(words).collect()
}

fn after_last_reset(mut entries: Vec<Entry<'_>>) -> Vec<Entry<'_>> {
    let reset = entries.iter().rposition(|entry| entry.assignment.value.is_empty());
    entries.split_off(reset.map_or(0, |reset| reset + 1))
}

/// Our section, or a slip in its name: that is a problem of its own, and its keys are read all the same.
fn ours(name: &str) -> bool {
    name.to_lowercase().contains("hafailover")
}

/// `X-` sections are other programs' business.
fn foreign(name: &str) -> bool {
    name.starts_with("X-") && !ours(name)
}
