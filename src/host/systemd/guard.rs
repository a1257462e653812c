//! Whether systemd has loaded our guards for a group: a drop-in that it has not loaded guards nothing.
//! It must not know what the generator writes, only that what it wrote last is what it would write now.

use super::bus::{BusError, Systemd, UnitState};
use super::calls::{Assert, Guarding};
use super::generator;
use crate::config::model::{Config, GroupConfig};
use crate::config::{self, Paths, unitfile};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::OnceCell;

/// What the generator wrote last, and what it would write now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    written: String,
    expected: String,
    /// What of that the files ask for.
    files: Vec<String>,
}

/// Reads them, once for all who ask before the reading begins: hundreds of groups may be about to start.
#[derive(Clone, Debug)]
pub struct Digester {
    paths: Paths,
    readings: Arc<Readings>,
}

#[derive(Debug, Default)]
struct Readings {
    /// The one that has not begun.
    next: Mutex<Arc<OnceCell<Arc<Digests>>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Digester {
    pub fn new(paths: Paths) -> Digester {
        Digester { paths, readings: Arc::default() }
    }

    /// As they are at a moment after this question.
    pub async fn digests(&self) -> Arc<Digests> {
        let next = || self.readings.next.lock().expect("no holder of this lock panics");
        let reading = next().clone();
        // Who is given up in the middle leaves it to another one.
        let read = async || {
            let _turn = self.readings.turn.lock().await;
            // Who asks from here on gets another one.
            *next() = Arc::default();
            Arc::new(digests(self.paths.clone()).await)
        };
        reading.get_or_init(read).await.clone()
    }
}

impl Digests {
    /// systemd has not read the groups' files as they are.
    pub fn lacks_files(&self) -> bool {
        let has = |line: &String| {
            let form = |line: &str| line.split_once(' ').map(|(_, form)| form.to_owned());
            self.written.lines().any(|written| form(written) == form(line))
        };
        !self.files.iter().all(has)
    }

    /// The targets do not go by what runs. While systemd reads its units there is nothing to tell that by.
    pub fn is_stale(&self, running: &Config) -> bool {
        if self.written.is_empty() {
            return false;
        }
        let live = || running.live_groups().map(|id| running.group(id));
        let other = |group: &GroupConfig| !self.orders(group);
        let expected: Vec<&str> = generator::ordered(&self.expected).collect();
        let gone = generator::ordered(&self.written).any(|name| !expected.contains(&name));
        live().any(other) || gone
    }

    /// The group's target wants what runs, and nothing else. Not known while systemd reads its units.
    pub fn orders(&self, group: &GroupConfig) -> bool {
        let says = generator::says(&self.written, &group.name, &group.members);
        self.written.is_empty() || says == generator::Loaded::Ordered
    }

    /// Names this state of things, to be compared with another.
    pub fn written(&self) -> &str {
        &self.written
    }
}

/// [`read_digests`], not on a thread that must answer.
pub async fn digests(paths: Paths) -> Digests {
    let (written, expected, files) = (String::new(), String::new(), Vec::new());
    let nothing = Digests { written, expected, files };
    tokio::task::spawn_blocking(move || read_digests(&paths)).await.unwrap_or(nothing)
}

/// Reads the groups' files: some dozens of them.
pub fn read_digests(paths: &Paths) -> Digests {
    let written = std::fs::read_to_string(&paths.generator_digest).unwrap_or_default().trim().to_owned();
    // A host without a name has no configuration either.
    let now = generator::render(paths, &config::hostname().unwrap_or_default());
    Digests { written, expected: now.digest, files: now.files_digest }
}

/// The units of a group in one form, target first; or what is wrong with their guards, as one sentence with the remedy.
pub async fn guarded_units(
    systemd: &Systemd,
    group: &GroupConfig,
    grant: &Path,
    digests: &Digests,
    digester: &Digester,
) -> Result<Result<Vec<UnitState>, String>, BusError> {
    if digest_fault(&digests.written, group).is_some() {
        // A reload empties the generators' directory first and answers nobody until its end: no digest is no fault
        // before that.
        systemd.answer().await?;
        let now = digester.digests().await;
        if let Some(fault) = digest_fault(&now.written, group) {
            return Ok(Err(fault));
        }
    }
    let mut units = vec![group.target()];
    units.extend(group.members.iter().cloned());
    let states = systemd.list(&units).await?;
    for state in &states {
        if let Some(fault) = load_fault(state) {
            return Ok(Err(fault));
        }
        let guarded = match systemd.guarding(&state.path).await? {
            Guarding::Asserts(asserts) => guarded(&asserts, grant),
            Guarding::DropIns(files) => {
                let (ours, grant) = (drop_in_of(&state.name, &digester.paths), grant.to_owned());
                let read = tokio::task::spawn_blocking(move || guarded_by_files(&files, &ours, &grant));
                read.await.unwrap_or(false)
            }
        };
        if !guarded {
            return Ok(Err(unguarded(&state.name, grant)));
        }
    }
    Ok(Ok(states))
}

fn digest_fault(written: &str, group: &GroupConfig) -> Option<String> {
    if written.is_empty() {
        return Some(
            "systemd has not run hafailover's generator: run `systemctl daemon-reload`; if that does not help, see \
             whether /usr/lib/systemd/system-generators/hafailover-generator is installed"
                .into(),
        );
    }
    (generator::says(written, &group.name, &group.members) == generator::Loaded::Neither)
        .then(|| "systemd has not loaded the guards of its members yet: run `systemctl daemon-reload`".into())
}

fn load_fault(state: &UnitState) -> Option<String> {
    let name = &state.name;
    match state.load.as_str() {
        "loaded" => None,
        "not-found" => Some(format!("{name} is not installed on this node: install it, or take it out of Start=")),
        "masked" => Some(format!("{name} is masked on this node: run `systemctl unmask {name}`")),
        other => Some(format!("systemd cannot load {name} ({other}): see `systemctl status {name}`")),
    }
}

/// Neither negated nor a triggering one: those let the unit start without the file.
fn guarded(asserts: &[Assert], grant: &Path) -> bool {
    asserts.iter().any(|(kind, trigger, negate, path, _)| {
        kind == "AssertPathExists" && !trigger && !negate && Path::new(path) == grant
    })
}

/// Where the generator writes the guard of a unit: beside the digest.
fn drop_in_of(unit: &str, paths: &Paths) -> PathBuf {
    let directory = paths.generator_digest.parent().unwrap_or(Path::new("/"));
    directory.join(format!("{unit}.d")).join(generator::DROP_IN)
}

/// Whether the drop-ins that systemd has loaded, in their order, hold our guard, and none behind it resets it. The generator's directory
/// changes with a daemon-reload alone, so its files are what was loaded; one that cannot be read may hold anything.
fn guarded_by_files(loaded: &[String], ours: &Path, grant: &Path) -> bool {
    let Some(place) = loaded.iter().position(|file| Path::new(file) == ours) else { return false };
    let asserts = |file: &Path| {
        let read = unitfile::parse(file, &config::read(file).ok().flatten()?);
        let found =
            read.assignments.into_iter().filter(|line| line.section == "Unit" && line.key.starts_with("Assert"));
        Some(found.map(|line| (line.key, line.value.text())).collect::<Vec<_>>())
    };
    let wanted = ("AssertPathExists".to_owned(), grant.display().to_string());
    // An empty Assert of whatever kind forgets all that came before it.
    let resets =
        |file: &String| asserts(Path::new(file)).is_none_or(|found| found.iter().any(|(_, value)| value.is_empty()));
    asserts(ours).is_some_and(|found| found.contains(&wanted)) && !loaded[place + 1..].iter().any(resets)
}

fn unguarded(unit: &str, grant: &Path) -> String {
    format!(
        "{unit} is loaded without AssertPathExists={}: look in `systemctl cat {unit}` for an AssertPathExists= that \
         resets it, remove that, and run `systemctl daemon-reload`",
        grant.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::io::Write;

    fn assert_of(kind: &str, trigger: bool, negate: bool, path: &str) -> Assert {
        (kind.into(), trigger, negate, path.into(), 0)
    }

    #[test]
    fn only_a_plain_assert_of_the_right_file_guards() {
        let grant = Path::new("/run/hafailover/grant/web");
        let good = assert_of("AssertPathExists", false, false, "/run/hafailover/grant/web");
        assert!(guarded(&[assert_of("AssertHost", false, false, "x"), good], grant));
        for bad in [
            assert_of("AssertPathExists", true, false, "/run/hafailover/grant/web"),
            assert_of("AssertPathExists", false, true, "/run/hafailover/grant/web"),
            assert_of("AssertPathExists", false, false, "/run/hafailover/grant/db"),
            assert_of("AssertPathIsDirectory", false, false, "/run/hafailover/grant/web"),
        ] {
            assert!(!guarded(&[bad], grant));
        }
        assert!(!guarded(&[], grant));
    }

    #[test]
    fn a_guard_that_was_loaded_and_not_reset_guards_without_asserts_too() {
        let places = crate::host::held::tests::TempPlaces::new("guard-files");
        let paths = Paths::under(&places.state);
        let ours = drop_in_of("nginx.service", &paths);
        let grant = Path::new("/run/hafailover/grant/web");
        let later = ours.with_file_name("60-later.conf");
        std::fs::create_dir_all(ours.parent().unwrap()).unwrap();
        let guard = "[Unit]\nAssertPathExists=/run/hafailover/grant/web\n";
        std::fs::write(&ours, guard).unwrap();
        std::fs::write(&later, "[Unit]\nAssertPathExists=/srv\nDescription=\n").unwrap();
        let files = |files: &[&Path]| files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
        let whole = files(&[&ours, &later]);
        assert!(guarded_by_files(&whole, &ours, grant));
        assert!(!guarded_by_files(&files(&[&later]), &ours, grant), "systemd has not loaded it");
        assert!(!guarded_by_files(&whole, &ours, Path::new("/run/hafailover/grant/db")), "another group's");
        for reset in ["AssertPathExists=", "AssertHost =  ", "AssertPathExists=\\\n"] {
            std::fs::write(&later, format!("[Unit]\n{reset}\n")).unwrap();
            assert!(!guarded_by_files(&whole, &ours, grant), "{reset}");
            assert!(
                guarded_by_files(&files(&[&later, &ours]), &ours, grant),
                "{reset} before it resets nothing of ours"
            );
        }
        std::fs::remove_file(&later).unwrap();
        assert!(!guarded_by_files(&whole, &ours, grant), "what was loaded from there is not known");
        std::fs::write(&ours, guard.replace("web", "db")).unwrap();
        assert!(!guarded_by_files(&files(&[&ours]), &ours, grant));
    }

    #[tokio::test]
    async fn files_are_read_once_for_all_who_ask_at_once_and_never_from_before_the_question() {
        let places = crate::host::held::tests::TempPlaces::new("guard-read-once");
        let paths = Paths::under(&places.state);
        let (digest, held) = (&paths.generator_digest, places.state.join("held"));
        std::fs::create_dir_all(digest.parent().unwrap()).unwrap();
        // The first reading lasts until somebody writes.
        mknodat(CWD, &held, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        std::fs::hard_link(&held, digest).unwrap();
        let digester = Digester::new(paths.clone());
        let ask = || {
            tokio::spawn({
                let digester = digester.clone();
                async move { digester.digests().await }
            })
        };
        let (first, given_up) = (ask(), ask());
        tokio::task::yield_now().await;
        // Open when the first reading has begun.
        let mut writer = std::fs::File::options().write(true).open(&held).unwrap();
        let (third, fourth) = (ask(), ask());
        tokio::task::yield_now().await;
        given_up.abort();
        let new = places.state.join("new");
        std::fs::write(&new, "two").unwrap();
        std::fs::rename(&new, digest).unwrap();
        writer.write_all(b"one").unwrap();
        drop(writer);
        let [first, third, fourth] = [first.await.unwrap(), third.await.unwrap(), fourth.await.unwrap()];
        assert_eq!((first.written(), third.written()), ("one", "two"), "read after it was asked for");
        assert!(Arc::ptr_eq(&third, &fourth), "one reading for both");
    }

    #[test]
    fn each_fault_names_its_remedy() {
        let config = crate::host::held::tests::config(&["alpha"]);
        assert!(digest_fault("order \"db\" abd", &config.groups[0]).unwrap().contains("daemon-reload"));
        assert!(digest_fault("", &config.groups[0]).unwrap().contains("hafailover-generator"));
        let unit = |load: &str| UnitState {
            name: "nginx.service".into(),
            load: load.into(),
            active: "inactive".into(),
            sub: "dead".into(),
            path: "/x".into(),
            job: None,
        };
        assert_eq!(load_fault(&unit("loaded")), None);
        assert!(load_fault(&unit("not-found")).unwrap().contains("install"));
        assert!(load_fault(&unit("masked")).unwrap().contains("unmask nginx.service"));
        assert!(load_fault(&unit("bad-setting")).unwrap().contains("bad-setting"));
    }

    #[tokio::test]
    async fn systemd_is_asked_anew_where_it_orders_otherwise_than_what_runs_and_not_for_an_edit() {
        let places = crate::host::held::tests::TempPlaces::new("guard-stale");
        let paths = Paths::under(&places.state);
        let put = |file: &Path, text: &[u8]| {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let adopt = |config: &Config| put(&paths.adopted[0], &serde_json::to_vec(config).unwrap());
        let look = || digests(paths.clone());
        let load = async || put(&paths.generator_digest, look().await.expected.as_bytes());
        let mut config = crate::host::held::tests::config(&["alpha"]);
        adopt(&config);
        assert!(!look().await.is_stale(&config), "a reload has just begun");
        put(&paths.generator_digest, b"order \"db\" 00\n");
        assert!(look().await.is_stale(&config), "an early boot without /var");
        load().await;
        assert!(!look().await.is_stale(&config));
        config.groups[1].members.push("php.service".into());
        adopt(&config);
        assert!(look().await.is_stale(&config), "a member was adopted");
        load().await;
        assert!(!look().await.is_stale(&config));
        config.groups.remove(0);
        adopt(&config);
        assert!(look().await.is_stale(&config), "the guards of a group that is gone are still there");
        load().await;
        let edit = paths.units[0].join("hafailover-group@mail.target.d/a.conf");
        assert!(!look().await.lacks_files());
        put(&edit, b"[X-HAFailover]\nStart=postfix.service\n");
        assert!(!look().await.is_stale(&config) && look().await.lacks_files());
        load().await;
        assert!(!look().await.is_stale(&config) && !look().await.lacks_files());
    }
}
