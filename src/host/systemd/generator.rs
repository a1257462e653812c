//! What systemd is told of the groups: one drop-in for each group's target, for each member and for what members trigger, as text.
//! It depends on nothing but the groups' own unit files, and on them only as far as they can be read: a broken
//! file, or no cluster at all, must not leave a member unguarded. It must not know the daemon, but for the
//! configuration that one keeps while it runs: until its next start, members that the files name no more stay guarded.

use crate::config::member::{Kind, guardable, is_unit_char, kind_of, triggers};
use crate::config::model::Config;
use crate::config::problem::Position;
use crate::config::section::{GroupUnit, read_units};
use crate::config::unitfile::Specifiers;
use crate::config::{Paths, Problem, digest};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The name of every drop-in written here.
pub const DROP_IN: &str = "50-hafailover.conf";
/// Beside the drop-ins: the digest of all of them.
pub const DIGEST_FILE: &str = "hafailover.digest";
/// Where the daemon leaves a group's grant. The generator runs on the host itself, so this is never re-rooted.
pub const GRANTS: &str = "/run/hafailover/grant";

const HEADER: &str = "# Written by hafailover-generator. Change the group's Start= instead: see hafailover-group(5).\n";

/// Everything the generator writes, relative to its output directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    pub files: BTreeMap<PathBuf, String>,
    /// SHA-256 over names and contents of what the groups' unit files alone ask for, in hexadecimal. What is written
    /// for the running configuration is no part of it: a restart of the daemon changes that, and asks for no reload.
    pub digest: String,
    /// What could not be read or guarded, for the log.
    pub problems: Vec<Problem>,
    /// Words of `Start=` that name no unit that could be guarded, with their group.
    pub unguarded: Vec<(String, String)>,
}

/// A group as far as it can be read.
struct Guarded {
    /// As it stands in the file system: not yet found to be a name that a group may have.
    name: String,
    /// In start order, without duplicates.
    members: Vec<(String, Kind)>,
}

impl Guarded {
    fn has(&self, unit: &str) -> bool {
        self.members.iter().any(|(member, _)| member == unit)
    }
}

/// The same from the same unit files, whoever asks: the generator, and the daemon that wants to know whether what
/// systemd loaded is current. `hostname` is `uname -n`.
pub fn render(paths: &Paths, hostname: &str) -> Generated {
    let units = read_units(&paths.units);
    let mut problems = Vec::new();
    let mut unguarded = Vec::new();
    let mut groups = Vec::new();
    for unit in &units {
        problems.extend(unit.problems());
        let (group, without) = read_group(unit, hostname);
        unguarded.extend(without.into_iter().map(|word| (group.name.clone(), word)));
        if unit.declared().is_some() || !group.members.is_empty() {
            groups.push(group);
        }
    }
    let digest = digest_of(&drop_ins(&groups));
    groups.extend(running(&paths.running, &mut problems));
    let files = drop_ins(&groups);
    Generated { files, digest, problems, unguarded }
}

/// Writes drop-ins and digest below `directory`. What fails hinders no other guard; but then there is no digest,
/// which stands for all of them, and the daemon takes no group.
pub fn write(generated: &Generated, directory: &Path) -> std::io::Result<()> {
    let mut outcome = Ok(());
    for (name, content) in &generated.files {
        outcome = outcome.and(write_one(&directory.join(name), content));
    }
    outcome?;
    std::fs::write(directory.join(DIGEST_FILE), format!("{}\n", generated.digest))
}

fn write_one(file: &Path, content: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, content)
}

fn read_group(unit: &GroupUnit, hostname: &str) -> (Guarded, Vec<String>) {
    let target = unit.target();
    let specifiers = Specifiers { unit: &target, hostname };
    let mut members: Vec<(String, Kind)> = Vec::new();
    let mut without = Vec::new();
    for word in unit.rough_members() {
        match specifiers.expand(&word).ok().and_then(|name| guardable(&name)) {
            Some((name, kind)) => {
                if !members.iter().any(|(known, _)| *known == name) {
                    members.push((name, kind));
                }
            }
            None => without.push(word),
        }
    }
    (Guarded { name: unit.instance.clone(), members }, without)
}

/// The groups of the configuration that runs; none where that cannot be told.
fn running(file: &Path, problems: &mut Vec<Problem>) -> Vec<Guarded> {
    let config = match std::fs::read(file) {
        Ok(text) => serde_json::from_slice::<Config>(&text).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => Err(error.to_string()),
    };
    match config {
        Ok(config) => config
            .groups
            .into_iter()
            .map(|group| Guarded {
                name: group.name,
                members: group.members.iter().filter_map(|member| guardable(member)).collect(),
            })
            .collect(),
        Err(error) => {
            let what = format!("the running configuration cannot be read: {error}");
            problems.push(Problem::new(file, Position::START, what, "systemctl restart hafailover writes it anew"));
            Vec::new()
        }
    }
}

/// A group may come twice, by its files and as it runs: what came first says what its target wants, and how members
/// follow each other.
fn drop_ins(groups: &[Guarded]) -> BTreeMap<PathBuf, String> {
    let mut contents: BTreeMap<String, String> = BTreeMap::new();
    for group in groups.iter().filter(|group| loadable(group)) {
        contents.entry(target(group)).or_insert_with(|| target_drop_in(group));
    }
    for group in groups {
        let mut previous = None;
        for (unit, kind) in &group.members {
            match contents.get_mut(unit) {
                Some(content) if has_guard(content, group) => {}
                // In two groups, which is a mistake: it needs both grants, and the first group orders it.
                Some(content) => push_guard(content, group),
                None => {
                    contents.insert(unit.clone(), member_drop_in(group, *kind, previous));
                }
            }
            previous = Some(unit.as_str());
        }
    }
    // What a member triggers comes and goes by itself, and still needs the grant: nobody may start it by hand either.
    for group in groups {
        let triggered = group.members.iter().filter_map(|(unit, _)| triggers(unit));
        for unit in triggered.filter(|unit| !groups.iter().any(|group| group.has(unit))) {
            match (contents.get_mut(&unit), kind_of(&unit)) {
                // By members of two groups, or by two members of one.
                (Some(content), _) if !has_guard(content, group) => push_guard(content, group),
                (Some(_), _) | (None, Err(_)) => {}
                (None, Ok(kind)) => drop(contents.insert(unit, member_drop_in(group, kind, None))),
            }
        }
    }
    contents.into_iter().map(|(unit, content)| (Path::new(&format!("{unit}.d")).join(DROP_IN), content)).collect()
}

/// The target wants its members and waits for them; a failed member leaves it active, and the daemon watches each.
fn target_drop_in(group: &Guarded) -> String {
    let mut text = format!("{HEADER}[Unit]\n");
    line(&mut text, "AssertPathExists", &grant(group));
    push_common(&mut text);
    for (unit, _) in &group.members {
        line(&mut text, "Wants", unit);
        line(&mut text, "After", unit);
    }
    text
}

fn member_drop_in(group: &Guarded, kind: Kind, previous: Option<&str>) -> String {
    let mut text = format!("{HEADER}[Unit]\n");
    push_guard(&mut text, group);
    push_common(&mut text);
    if let Some(previous) = previous {
        line(&mut text, "Requires", previous);
        line(&mut text, "After", previous);
    }
    // Started early by default, they could not come after us: systemd would break the cycle by dropping our own stop.
    let stopped_by = match kind {
        Kind::Service | Kind::Target => None,
        Kind::Mount => Some("umount.target"),
        Kind::Trigger => Some("shutdown.target"),
    };
    if let Some(stopped_by) = stopped_by {
        line(&mut text, "DefaultDependencies", "no");
        line(&mut text, "Conflicts", stopped_by);
        line(&mut text, "Before", stopped_by);
    }
    text
}

fn push_common(text: &mut String) {
    // Never Before=: the daemon's own stop would wait for a stop that it has to order itself.
    line(text, "After", "hafailover.service");
    // Isolating a target (rescue mode) stops the daemon, which hands over: members that went first would look like failures.
    line(text, "IgnoreOnIsolate", "yes");
}

fn has_guard(text: &str, group: &Guarded) -> bool {
    text.contains(&format!("={}\n", grant(group)))
}

fn push_guard(text: &mut String, group: &Guarded) {
    // Assert, not Condition: a skipped mount would let its service start on the bare directory.
    line(text, "AssertPathExists", &grant(group));
    if loadable(group) {
        line(text, "PartOf", &target(group));
    }
}

/// Whether systemd can have a unit of that name at all.
fn loadable(group: &Guarded) -> bool {
    group.name.chars().all(is_unit_char)
}

fn target(group: &Guarded) -> String {
    crate::config::unitpath::target_of(&group.name)
}

/// What is no name of a group becomes one that nobody is ever granted: `..`, say, would be there.
fn grant(group: &Guarded) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String = group.name.chars().map(|c| if plain(c) { c } else { '?' }).collect();
    format!("{GRANTS}/{name}")
}

fn line(text: &mut String, key: &str, value: &str) {
    // No value holds a `%`, which would begin a specifier: names of units and of grants cannot.
    writeln!(text, "{key}={value}").expect("writing to a string does not fail");
}

fn digest_of(files: &BTreeMap<PathBuf, String>) -> String {
    let mut text = String::new();
    for (name, content) in files {
        writeln!(text, "{} {}\n{content}", name.display(), content.len()).expect("writing to a string does not fail");
    }
    digest::hexadecimal(text.as_bytes())
}
