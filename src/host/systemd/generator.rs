//! What systemd is told of the groups: one drop-in for each group's target, for each member, for what members trigger, and for the
//! daemon, as text.
//! It depends on nothing but the groups' own unit files, and on them only as far as they can be read: a broken
//! file, or no cluster at all, must not leave a member unguarded. It must not know the daemon, but for the
//! configuration that one has adopted: that says what targets want and how members follow each other, and guards are for both.

use crate::config::member::{Kind, guardable, is_unit_char, kind_of, triggers};
use crate::config::model::Config;
use crate::config::problem::Position;
use crate::config::section::{GroupUnit, read_units};
use crate::config::unitfile::Specifiers;
use crate::config::{Paths, Problem, digest};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The name of every drop-in written here.
pub const DROP_IN: &str = "50-hafailover.conf";
const DAEMON: &str = "hafailover.service";
/// Beside the drop-ins: the digest of all of them.
pub const DIGEST_FILE: &str = "hafailover.digest";
/// Where the daemon leaves a group's grant. The generator runs on the host itself, so this is never re-rooted.
pub const GRANTS: &str = "/run/hafailover/grant";

const HEADER: &str = "# Written by hafailover-generator. Change the group's Start= instead: see hafailover-group(5).\n";

/// Everything the generator writes, relative to its output directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    pub files: BTreeMap<PathBuf, String>,
    /// A line for each group in each of its forms that is guarded: `order` for the one that the target goes by, `guard` for the one that
    /// only the files have; its name, and SHA-256 over what that form by itself asks for.
    pub digest: String,
    /// The lines of the files' forms.
    pub files_digest: Vec<String>,
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
    fn of(name: &str, members: &[String]) -> Guarded {
        let members = members.iter().filter_map(|member| guardable(member)).collect();
        Guarded { name: name.to_owned(), members }
    }

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
    let adopted = adopted(&paths.adopted, &mut problems);
    let names = |groups: &[Guarded]| groups.iter().map(|group| group.name.clone()).collect::<BTreeSet<_>>();
    let (adopted_names, file_names) = (names(&adopted), names(&groups));
    let mut lines: Vec<String> = adopted.iter().map(|group| digest_line(ORDER, group)).collect();
    let mut files_digest = Vec::new();
    for group in &groups {
        let same = digest_line(ORDER, group);
        let known = lines.contains(&same) || !adopted_names.contains(&group.name);
        let line = if known { same } else { digest_line(GUARD, group) };
        if !lines.contains(&line) {
            lines.push(line.clone());
        }
        files_digest.push(line);
    }
    lines.sort();
    // Of a group that is gone from the files nobody leaves before the others.
    let leaving = |group: &Guarded, unit: &str| {
        let in_files = groups.iter().find(|other| other.name == group.name);
        file_names.contains(&group.name) && in_files.is_some_and(|files| !files.has(unit))
    };
    let leave = adopted.iter().map(|group| {
        let units = group.members.iter().map(|(unit, _)| unit.clone());
        units.filter(|unit| leaving(group, unit)).collect()
    });
    let leave: Vec<BTreeSet<String>> = leave.chain(groups.iter().map(|_| BTreeSet::new())).collect();
    let all: Vec<Guarded> = adopted.into_iter().chain(groups).collect();
    let mut files = drop_ins(&all, &leave);
    files.extend(kept_loaded(&all));
    Generated { files, digest: lines.join("\n"), files_digest, problems, unguarded }
}

/// What the digest file says of a group in the form of these members.
pub fn says(digest: &str, name: &str, members: &[String]) -> Loaded {
    let group = Guarded::of(name, members);
    let has = |wanted: String| digest.lines().any(|line| line == wanted);
    if has(digest_line(ORDER, &group)) {
        Loaded::Ordered
    } else if has(digest_line(GUARD, &group)) {
        Loaded::Guarded
    } else {
        Loaded::Neither
    }
}

/// The names of the groups whose targets go by the digest's word.
pub fn ordered(digest: &str) -> impl Iterator<Item = &str> {
    digest.lines().filter_map(|line| line.strip_prefix(ORDER)?.trim_start().split('"').nth(1))
}

/// How far a group is known to systemd in one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The target wants these members, in their order.
    Ordered,
    /// They are guarded; the target goes by another form.
    Guarded,
    Neither,
}

const ORDER: &str = "order";
const GUARD: &str = "guard";

fn digest_line(kind: &str, group: &Guarded) -> String {
    format!("{kind} {:?} {}", group.name, digest_of(&drop_ins(std::slice::from_ref(group), &[BTreeSet::new()])))
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

/// The groups of the configuration that was adopted: of this boot, or where there is none yet, as the disk has it. None where that
/// cannot be told, or before `/var` is there: the daemon then has the generator run again.
fn adopted(files: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<Guarded> {
    for file in files {
        let config = match std::fs::read(file) {
            Ok(text) => serde_json::from_slice::<Config>(&text).map_err(|error| error.to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => Err(error.to_string()),
        };
        match config {
            Ok(config) => return config.groups.iter().map(|group| Guarded::of(&group.name, &group.members)).collect(),
            Err(error) => {
                let what = format!("the adopted configuration cannot be read: {error}");
                problems.push(Problem::new(file, Position::START, what, "systemctl restart hafailover writes it anew"));
            }
        }
    }
    Vec::new()
}

/// A group may come twice, as it was adopted and by its files: what came first says what its target wants, and how members
/// follow each other. `leave`: members, group by group, that are to be stopped while the others run on.
fn drop_ins(groups: &[Guarded], leave: &[BTreeSet<String>]) -> BTreeMap<PathBuf, String> {
    let mut contents: BTreeMap<String, String> = BTreeMap::new();
    for group in groups.iter().filter(|group| loadable(group)) {
        contents.entry(target(group)).or_insert_with(|| target_drop_in(group));
    }
    for (group, leave) in groups.iter().zip(leave) {
        for (index, (unit, kind)) in group.members.iter().enumerate() {
            match contents.get_mut(unit) {
                Some(content) if has_guard(content, group) => {}
                // In two groups, which is a mistake: it needs both grants, and the first group orders it.
                Some(content) => push_guard(content, group),
                None => {
                    let before = Before::of(&group.members[..index], leave);
                    contents.insert(unit.clone(), member_drop_in(group, *kind, before));
                }
            }
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
                (None, Ok(kind)) => drop(contents.insert(unit, member_drop_in(group, kind, Before::default()))),
            }
        }
    }
    contents.into_iter().map(|(unit, content)| (Path::new(&format!("{unit}.d")).join(DROP_IN), content)).collect()
}

/// The daemon's own unit names all targets, which name their members. What an active unit names stays loaded; of an inactive unit that
/// nobody names systemd forgets all as soon as it has answered, and reads its files anew for each question before a start and
/// for the start itself. It is the targets' own `After=`, told from the other side.
fn kept_loaded(groups: &[Guarded]) -> Option<(PathBuf, String)> {
    let targets: BTreeSet<String> = groups.iter().filter(|group| loadable(group)).map(target).collect();
    let mut text = format!("{HEADER}[Unit]\n");
    targets.iter().for_each(|target| line(&mut text, "Before", target));
    (!targets.is_empty()).then(|| (Path::new(&format!("{DAEMON}.d")).join(DROP_IN), text))
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

/// What a member comes after.
#[derive(Clone, Copy, Default)]
struct Before<'a> {
    /// With which it goes down.
    required: Option<&'a str>,
    /// That leaves the group: its stop must not take along who stays.
    leaving: Option<&'a str>,
}

impl<'a> Before<'a> {
    fn of(members: &'a [(String, Kind)], leave: &BTreeSet<String>) -> Before<'a> {
        let mut back = members.iter().rev().map(|(unit, _)| unit.as_str());
        let last = members.last().map(|(unit, _)| unit.as_str());
        Before {
            required: back.find(|unit| !leave.contains(*unit)),
            leaving: last.filter(|unit| leave.contains(*unit)),
        }
    }
}

fn member_drop_in(group: &Guarded, kind: Kind, before: Before<'_>) -> String {
    let mut text = format!("{HEADER}[Unit]\n");
    push_guard(&mut text, group);
    push_common(&mut text);
    if let Some(required) = before.required {
        line(&mut text, "Requires", required);
        line(&mut text, "After", required);
    }
    if let Some(leaving) = before.leaving {
        line(&mut text, "After", leaving);
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
    line(text, "After", DAEMON);
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
