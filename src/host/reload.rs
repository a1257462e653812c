//! `reload`: reads the files again. New keys are taken at once; every other difference waits for a restart, and is
//! said. Files with mistakes change nothing. And what a restart may take over while groups run here.

use super::orders::{Beat, ToBeat};
use crate::cluster::{Answer, Event};
use crate::config::model::{Config, GroupConfig, VirtualAddress};
use crate::config::{self, Loaded, Paths, Problem};
use crate::wire::seal::KeySet;
use std::collections::BTreeMap;

/// Reads the files on a thread that may wait for them.
pub(super) async fn read(paths: Paths) -> Result<Loaded, Vec<Problem>> {
    // A host without a name is found among no nodes, which is then the mistake that is told.
    let read = tokio::task::spawn_blocking(move || config::load(&paths, &config::hostname().unwrap_or_default()));
    // It was cancelled only if the process ends.
    read.await.unwrap_or(Err(Vec::new()))
}

/// Judges what was read against what runs; tells the beat thread what changed. `held`: the groups of this host.
pub(super) fn apply(
    loaded: Result<Loaded, Vec<Problem>>,
    running: &Config,
    held: &[String],
    keys: &mut KeySet,
    beat: &Beat,
) -> Answer {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            let lines: String = problems.iter().map(|problem| format!("\n{problem}")).collect();
            let text = format!("the files have mistakes, the running configuration stays as it is:{lines}");
            return Answer::Refused(text);
        }
    };
    let mut said = Vec::new();
    if loaded.keys != *keys {
        *keys = loaded.keys.clone();
        beat.send(ToBeat::Keys(loaded.keys));
        said.push("the keys are taken over".to_owned());
    }
    let pending = difference(running, &loaded.config).map(|what| {
        let remedy = "it takes effect with `systemctl restart hafailover`".to_owned();
        format!("{what}; {}", held_back(running, &loaded.config, held).unwrap_or(remedy))
    });
    if let Some(what) = &pending {
        said.push(format!("changed on disk: {what}"));
    }
    beat.send(ToBeat::Event(Event::Pending(pending)));
    if said.is_empty() {
        said.push("nothing has changed".into());
    }
    said.extend(loaded.warnings.iter().map(|warning| format!("warning: {warning}")));
    Answer::Done(said.join("\n"))
}

/// What differs, named as an administrator knows it.
fn difference(running: &Config, on_disk: &Config) -> Option<String> {
    if running == on_disk {
        return None;
    }
    let mut what = Vec::new();
    if running.cluster_digest != on_disk.cluster_digest {
        what.push("hafailover.toml".to_owned());
    }
    let by_name = |config: &Config| -> BTreeMap<String, GroupConfig> {
        config.groups.iter().map(|group| (group.name.clone(), group.clone())).collect()
    };
    let (old, new) = (by_name(running), by_name(on_disk));
    for (name, group) in &new {
        match old.get(name) {
            None => what.push(format!("group {name} (new)")),
            Some(before) if before != group => what.push(format!("group {name}")),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    what.extend(gone.map(|name| format!("group {name} (gone)")));
    if what.is_empty() {
        what.push("local.toml".into());
    }
    Some(what.join(", "))
}

/// Why a restart must not take `new` over, with the remedy: it would have `held` groups of this host stopped by what their new files name,
/// so what only the old ones name would run on beside the next owner; or it would stop for a while what a restart leaves running.
pub fn held_back(running: &Config, new: &Config, held: &[String]) -> Option<String> {
    let renamed = running.node(running.me).name != new.node(new.me).name;
    let reasons = held.iter().filter_map(|name| {
        let old = running.group(running.find_group(name)?);
        let what = match new.find_group(name) {
            None => vec!["the files do not name it any more".to_owned()],
            Some(_) if renamed => vec!["this node has another name now".to_owned()],
            Some(id) => changes(old, new.group(id)),
        };
        let back = if new.find_group(name).is_some() { format!(", hafailoverctl start {name}") } else { String::new() };
        (!what.is_empty()).then(|| {
            format!(
                "group {name} runs here and goes on as before, because {}; to change it: hafailoverctl stop {name}, \
                 systemctl restart hafailover{back}",
                what.join(", ")
            )
        })
    });
    let reasons: Vec<String> = reasons.collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// What of a running group a daemon with the new definition would not stop, or not find running. A new address is none of it: what
/// adopts the group puts it up.
fn changes(old: &GroupConfig, new: &GroupConfig) -> Vec<String> {
    let place = |address: &VirtualAddress| (address.address, address.prefix, address.interface.clone());
    let kept = |old: &VirtualAddress| new.addresses.iter().any(|new| place(new) == place(old));
    let gone = old.addresses.iter().filter(|old| !kept(old));
    let dev = |old: &VirtualAddress| old.interface.as_ref().map_or(String::new(), |dev| format!(" dev {dev}"));
    let gone = gone.map(|old| format!("{}/{}{} is gone from its files", old.address, old.prefix, dev(old)));
    let left = old.members.iter().filter(|member| !new.members.contains(member));
    let left = left.map(|member| format!("{member} is gone from its files"));
    let added = new.members.iter().filter(|member| !old.members.contains(member));
    let added = added.map(|member| format!("{member} is new in its files"));
    gone.chain(left).chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::config;
    use crate::host::orders::beat_channel;
    use crate::wire::seal::{Key, Method};
    use std::time::Duration;

    fn keys(secret: &str) -> KeySet {
        let key = Key { method: Method::Sha256, secret: secret.into() };
        KeySet::new(1, BTreeMap::from([(1, key)])).unwrap()
    }

    fn loaded(config: Config, secret: &str) -> Loaded {
        Loaded { config, keys: keys(secret), warnings: vec![] }
    }

    #[test]
    fn new_keys_are_taken_and_nothing_else_is_pending() {
        let (beat, inbox) = beat_channel().unwrap();
        let (running, mut held) = (config(&["alpha"]), keys("old"));
        let answer = apply(Ok(loaded(running.clone(), "new")), &running, &[], &mut held, &beat);
        assert_eq!(answer, Answer::Done("the keys are taken over".into()));
        assert_eq!(held, keys("new"));
        let told: Vec<ToBeat> = inbox.drain().collect();
        assert!(matches!(&told[0], ToBeat::Keys(new) if *new == keys("new")), "{told:?}");
        assert!(matches!(&told[1], ToBeat::Event(Event::Pending(None))), "{told:?}");
        assert_eq!(
            apply(Ok(loaded(running.clone(), "new")), &running, &[], &mut held, &beat),
            Answer::Done("nothing has changed".into())
        );
    }

    #[test]
    fn what_differs_is_named() {
        let running = config(&["alpha", "beta"]);
        assert_eq!(difference(&running, &running), None);
        let mut changed = running.clone();
        changed.groups[1].timeout_stop = Duration::from_secs(1);
        changed.groups[0].name = "mail".into();
        assert_eq!(difference(&running, &changed).unwrap(), "group mail (new), group web, group db (gone)");
        let mut cluster = running.clone();
        cluster.cluster_digest += 1;
        assert_eq!(difference(&running, &cluster).unwrap(), "hafailover.toml");
        let mut local = running.clone();
        local.takeover.delay = Duration::from_secs(1);
        assert_eq!(difference(&running, &local).unwrap(), "local.toml");
    }

    fn address(last: u8) -> VirtualAddress {
        let address = [10, 0, 0, last].into();
        VirtualAddress { address, prefix: 24, interface: Some("eth0".into()), label: None, broadcast: None }
    }

    #[test]
    fn what_a_restart_would_leave_behind_holds_the_new_files_back() {
        let mut running = config(&["alpha", "beta"]);
        running.groups[1].addresses = vec![address(77)];
        let held = ["web".to_owned()];
        let after = |change: fn(&mut Config)| {
            let mut new = running.clone();
            change(&mut new);
            held_back(&running, &new, &held)
        };
        assert_eq!(after(|_| {}), None);
        let gone = after(|new| new.groups[1].addresses = vec![address(78)]).unwrap();
        let remedy = "hafailoverctl stop web, systemctl restart hafailover, hafailoverctl start web";
        assert!(gone.contains("10.0.0.77/24 dev eth0 is gone") && gone.ends_with(remedy), "{gone}");
        assert!(after(|new| new.groups[1].addresses[0].prefix = 25).unwrap().contains("10.0.0.77/24"));
        assert!(after(|new| new.groups[1].addresses[0].interface = Some("eth1".into())).unwrap().contains("dev eth0"));
        assert!(after(|new| new.groups[1].members.clear()).unwrap().contains("nginx.service is gone"));
        assert!(after(|new| new.groups[1].members.push("a.mount".into())).unwrap().contains("a.mount is new"));
        let gone = after(|new| drop(new.groups.pop())).unwrap();
        assert!(gone.contains("web") && gone.ends_with("restart hafailover"), "{gone}: there is nothing to start");
        assert!(after(|new| new.nodes[0].name = "gamma".into()).unwrap().contains("another name"));
    }

    #[test]
    fn what_runs_elsewhere_or_only_grows_by_an_address_holds_nothing_back() {
        let mut running = config(&["alpha", "beta"]);
        running.groups[1].addresses = vec![address(77)];
        let mut new = running.clone();
        new.groups[1].addresses.push(address(78));
        new.groups[1].addresses[0].label = Some("eth0:web".into());
        new.groups[0].members.clear();
        assert_eq!(held_back(&running, &new, &["web".into()]), None);
        assert!(held_back(&running, &new, &["db".into()]).is_some());
        assert_eq!(held_back(&running, &new, &["unknown".into()]), None);
    }

    #[test]
    fn a_reload_says_what_a_restart_will_not_do() {
        let (beat, inbox) = beat_channel().unwrap();
        let (running, mut same) = (config(&["alpha"]), keys("old"));
        let mut new = running.clone();
        new.groups[1].members.clear();
        for (held, expected) in [(vec![], "takes effect with"), (vec!["web".to_owned()], "hafailoverctl stop web")] {
            let answer = apply(Ok(loaded(new.clone(), "old")), &running, &held, &mut same, &beat);
            let Answer::Done(text) = answer else { panic!("{answer:?}") };
            assert!(text.contains("group web") && text.contains(expected), "{text}");
            let told: Vec<ToBeat> = inbox.drain().collect();
            let [ToBeat::Event(Event::Pending(Some(what)))] = &told[..] else { panic!("{told:?}") };
            assert!(what.contains(expected), "{what}");
        }
    }

    #[test]
    fn mistakes_change_nothing_and_are_all_told() {
        let (beat, inbox) = beat_channel().unwrap();
        let problem = |line, what: &str| Problem {
            file: "/etc/hafailover/hafailover.toml".into(),
            line,
            column: 2,
            what: what.into(),
            remedy: "do otherwise".into(),
        };
        let (running, mut held) = (config(&["alpha"]), keys("old"));
        let answer = apply(Err(vec![problem(3, "first"), problem(9, "second")]), &running, &[], &mut held, &beat);
        let Answer::Refused(text) = answer else { panic!("{answer:?}") };
        assert!(text.contains("hafailover.toml:3:2: first; do otherwise"), "{text}");
        assert!(text.contains("hafailover.toml:9:2: second"), "{text}");
        assert_eq!(inbox.drain().count(), 0);
        assert_eq!(held, keys("old"));
    }
}
