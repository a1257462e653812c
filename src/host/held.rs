//! What this boot's daemon holds, kept in `/run` so that the next run of the daemon finds it: `held/GROUP` says which
//! grant, `grant/GROUP` lets systemd start the members. Memory file system: small and synchronous, safe on the beat thread.

use super::state::Places;
use crate::cluster::{BootId, Epoch, Grant, Held, HeldPhase};
use crate::config::model::Config;
use std::io;
use std::path::{Path, PathBuf};

/// Writes `held/GROUP`; then makes (`Granted`) or first removes (`Stopping`) the grant file.
///
/// The order matters for a crash in between: what is granted is always held, so the next daemon finds it. What is held without a grant
/// file is stopping, whatever its note says: a stop must not wait for room in `/run`.
pub fn hold(places: &Places, group: &str, grant: &Grant, node: &str, phase: HeldPhase) -> io::Result<()> {
    let text =
        format!("epoch={}\nnode={node}\nboot={:016x}\nphase={}\n", grant.epoch.0, grant.boot.0, phase_name(phase));
    match phase {
        HeldPhase::Granted => {
            replace(&held_file(places, group), &text)?;
            replace(&places.grant_file(group), &text)
        }
        HeldPhase::Stopping => {
            remove(&places.grant_file(group))?;
            // The missing grant file says as much; where nothing was ever noted, nothing was started.
            let _ = replace(&held_file(places, group), &text);
            Ok(())
        }
    }
}

/// The group is confirmed stopped.
pub fn forget(places: &Places, group: &str) -> io::Result<()> {
    remove(&places.grant_file(group))?;
    remove(&held_file(places, group))
}

/// The groups that an earlier run in this boot left without having confirmed that they stopped.
pub fn groups(places: &Places) -> Vec<String> {
    names(&places.run.join("held"))
}

/// Whether there is one.
pub fn any(places: &Places) -> bool {
    !groups(places).is_empty()
}

/// What an earlier run in this boot left, sorted by group. What another boot left is removed: nothing of it can run.
/// Grant files that nothing holds are removed too. Notes say what could not be understood, and which groups nobody looks after.
pub fn load_held(places: &Places, config: &Config, boot: BootId) -> (Vec<Held>, Vec<String>) {
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    for group in groups(places) {
        match read(places, config, &group) {
            Ok(held) if held.grant.boot == boot && config.find_group(&group).is_none() => {
                notes.push(unnamed(places, &group));
            }
            Ok(held) if held.grant.boot == boot => found.push(held),
            Ok(_) => note_error(forget(places, &group), &group, &mut notes),
            Err(reason) => {
                notes.push(format!("{}: {reason}; not used", held_file(places, &group).display()));
                note_error(remove(&places.grant_file(&group)), &group, &mut notes);
            }
        }
    }
    for group in names(&places.run.join("grant")) {
        if !found.iter().any(|held| held.group == group) {
            note_error(remove(&places.grant_file(&group)), &group, &mut notes);
        }
    }
    (found, notes)
}

/// Neither the files nor what was adopted says what this group consists of: it cannot be stopped here. systemd starts no more of it, and
/// the note in `/run` stays, so that each start tells of it anew.
fn unnamed(places: &Places, group: &str) -> String {
    format!(
        "group {group} was left running here, and no configuration names it any more: nobody looks after it. Stop it by hand \
         (systemctl stop hafailover-group@{group}.target, then its members), remove its addresses, and then the file {}",
        held_file(places, group).display()
    )
}

fn read(places: &Places, config: &Config, group: &str) -> Result<Held, String> {
    let text = std::fs::read_to_string(held_file(places, group)).map_err(|error| error.to_string())?;
    let value = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.ok_or_else(|| format!("{key}= is missing"))
    };
    let epoch = value("epoch")?.parse().map_err(|_| "epoch= is no number".to_owned())?;
    let boot = u64::from_str_radix(value("boot")?, 16).map_err(|_| "boot= is no boot id".to_owned())?;
    let name = value("node")?;
    let node = config.find_node(name).ok_or_else(|| format!("{name} is no node of this cluster"))?;
    let phase = match value("phase")? {
        "granted" if places.grant_file(group).exists() => HeldPhase::Granted,
        // Its grant was taken back, and there was no room to note that.
        "granted" | "stopping" => HeldPhase::Stopping,
        other => return Err(format!("phase={other} is unknown")),
    };
    let grant = Grant { epoch: Epoch(epoch), node, boot: BootId(boot) };
    Ok(Held { group: group.to_owned(), grant, phase })
}

fn phase_name(phase: HeldPhase) -> &'static str {
    match phase {
        HeldPhase::Granted => "granted",
        HeldPhase::Stopping => "stopping",
    }
}

fn held_file(places: &Places, group: &str) -> PathBuf {
    places.run.join("held").join(group)
}

/// Names of the finished files in a directory; an unfinished one starts with a dot, which no group's name does.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    std::fs::create_dir_all(directory)?;
    let new = directory.join(format!(".{}", name.to_string_lossy()));
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn note_error(result: io::Result<()>, group: &str, notes: &mut Vec<String>) {
    if let Err(error) = result {
        notes.push(format!("what an earlier run left of group {group} cannot be removed: {error}"));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::model::{
        Failback, GroupConfig, GroupTag, NodeConfig, NodeId, NodeTag, ProofPolicy, TakeoverConfig, Timing,
    };
    use std::ops::Deref;
    use std::time::Duration;

    /// Places under a directory of the test's own, removed at its end.
    pub(crate) struct TempPlaces(Places, PathBuf);

    impl TempPlaces {
        pub(crate) fn new(name: &str) -> TempPlaces {
            let root = std::env::temp_dir().join(format!("hafailover-{name}-{}", std::process::id()));
            let places = Places { run: root.join("run"), state: root.join("state") };
            std::fs::create_dir_all(&places.run).unwrap();
            std::fs::create_dir_all(&places.state).unwrap();
            TempPlaces(places, root)
        }
    }

    impl Deref for TempPlaces {
        type Target = Places;
        fn deref(&self) -> &Places {
            &self.0
        }
    }

    impl Drop for TempPlaces {
        fn drop(&mut self) {
            // Nothing depends on it.
            let _ = std::fs::remove_dir_all(&self.1);
        }
    }

    pub(crate) fn config(nodes: &[&str]) -> Config {
        let second = Duration::from_secs(1);
        let group = |name: &str, members: &[&str]| GroupConfig {
            name: name.into(),
            tag: GroupTag(1),
            description: String::new(),
            nodes: vec![NodeId(0)],
            addresses: vec![],
            members: members.iter().map(|member| member.to_string()).collect(),
            failback: Failback::No,
            proof: ProofPolicy::Silence,
            delay: Duration::ZERO,
            interfaces: vec![],
            timeout_start: 30 * second,
            timeout_stop: 30 * second,
            digest: 0,
        };
        Config {
            cluster: "shop".into(),
            cluster_tag: 1,
            nodes: (0u16..)
                .zip(nodes)
                .map(|(tag, name)| NodeConfig { name: name.to_string(), tag: NodeTag(tag) })
                .collect(),
            me: NodeId(0),
            timing: Timing { keepalive: second / 5, warntime: second / 2, deadtime: second, initdead: 30 * second },
            links: vec![],
            takeover: TakeoverConfig { proof: ProofPolicy::Silence, delay: Duration::ZERO },
            groups: vec![group("db", &["db.service"]), group("web", &["nginx.service"])],
            cluster_digest: 0,
        }
    }

    const BOOT: BootId = BootId(0x55);

    fn grant(epoch: u32, boot: BootId) -> Grant {
        Grant { epoch: Epoch(epoch), node: NodeId(0), boot }
    }

    #[test]
    fn what_is_held_is_found_by_the_next_run() {
        let (places, config) = (TempPlaces::new("held-found"), config(&["alpha", "beta"]));
        hold(&places, "web", &grant(3, BOOT), "alpha", HeldPhase::Granted).unwrap();
        hold(&places, "db", &grant(4, BOOT), "alpha", HeldPhase::Stopping).unwrap();
        let held = |group: &str, epoch, phase| Held { group: group.into(), grant: grant(epoch, BOOT), phase };
        let expected = vec![held("db", 4, HeldPhase::Stopping), held("web", 3, HeldPhase::Granted)];
        assert_eq!(load_held(&places, &config, BOOT), (expected, vec![]));
        assert!(places.grant_file("web").exists());
        assert!(!places.grant_file("db").exists());
    }

    #[test]
    fn stopping_takes_the_grant_back_and_forgetting_takes_all() {
        let places = TempPlaces::new("held-stop");
        hold(&places, "web", &grant(3, BOOT), "alpha", HeldPhase::Granted).unwrap();
        hold(&places, "web", &grant(3, BOOT), "alpha", HeldPhase::Stopping).unwrap();
        assert!(!places.grant_file("web").exists());
        forget(&places, "web").unwrap();
        forget(&places, "web").unwrap();
        assert_eq!(load_held(&places, &config(&["alpha"]), BOOT), (vec![], vec![]));
    }

    #[test]
    fn a_grant_is_taken_back_where_there_is_no_room_for_a_note() {
        let places = TempPlaces::new("held-full");
        hold(&places, "web", &grant(3, BOOT), "alpha", HeldPhase::Granted).unwrap();
        // The note is written beside the old one first: where a directory has its name, that fails like a full file system.
        std::fs::create_dir_all(places.run.join("held/.web")).unwrap();
        hold(&places, "web", &grant(3, BOOT), "alpha", HeldPhase::Stopping).unwrap();
        assert!(!places.grant_file("web").exists());
        let held = Held { group: "web".into(), grant: grant(3, BOOT), phase: HeldPhase::Stopping };
        assert_eq!(load_held(&places, &config(&["alpha"]), BOOT), (vec![held], vec![]));
        assert!(hold(&places, "web", &grant(4, BOOT), "alpha", HeldPhase::Granted).is_err(), "a grant needs its note");
        assert!(!places.grant_file("web").exists());
    }

    #[test]
    fn another_boots_files_are_removed() {
        let places = TempPlaces::new("held-boot");
        hold(&places, "web", &grant(3, BootId(1)), "alpha", HeldPhase::Granted).unwrap();
        assert_eq!(load_held(&places, &config(&["alpha"]), BOOT), (vec![], vec![]));
        assert!(!places.grant_file("web").exists());
        assert_eq!(names(&places.run.join("held")), Vec::<String>::new());
    }

    #[test]
    fn a_group_that_no_configuration_names_is_told_of_at_each_start_and_has_no_grant() {
        let places = TempPlaces::new("held-unnamed");
        hold(&places, "gone", &grant(3, BOOT), "alpha", HeldPhase::Granted).unwrap();
        for _ in 0..2 {
            let (held, notes) = load_held(&places, &config(&["alpha"]), BOOT);
            assert_eq!(held, vec![]);
            assert!(notes[0].contains("group gone") && notes[0].contains("hafailover-group@gone.target"), "{notes:?}");
            assert!(!places.grant_file("gone").exists());
        }
        assert!(any(&places), "what follows the daemon's death knows of it too");
        let mut named = config(&["alpha"]);
        named.groups[0].name = "gone".into();
        let (held, notes) = load_held(&places, &named, BOOT);
        assert_eq!((held[0].phase, notes), (HeldPhase::Stopping, vec![]), "named again, it is stopped and confirmed");
    }

    #[test]
    fn a_grant_that_nothing_holds_and_garbage_grant_nothing() {
        let places = TempPlaces::new("held-garbage");
        std::fs::create_dir_all(places.run.join("grant")).unwrap();
        std::fs::create_dir_all(places.run.join("held")).unwrap();
        std::fs::write(places.grant_file("web"), "").unwrap();
        std::fs::write(places.grant_file("db"), "").unwrap();
        std::fs::write(places.run.join("held/db"), "epoch=x\nboot=55\n").unwrap();
        let (held, notes) = load_held(&places, &config(&["alpha"]), BOOT);
        assert_eq!(held, vec![]);
        assert!(notes[0].contains("epoch= is no number"), "{notes:?}");
        assert!(!places.grant_file("web").exists() && !places.grant_file("db").exists());
    }
}
