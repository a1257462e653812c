//! `reload`: reads the files again. New keys are taken at once; every other difference waits for a restart, and is
//! said. Files with mistakes change nothing.

use super::orders::{Beat, ToBeat};
use crate::cluster::{Answer, Event};
use crate::config::model::{Config, GroupConfig};
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

/// Judges what was read against what runs; tells the beat thread what changed.
pub(super) fn apply(loaded: Result<Loaded, Vec<Problem>>, running: &Config, keys: &mut KeySet, beat: &Beat) -> Answer {
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
    let pending = difference(running, &loaded.config);
    if let Some(what) = &pending {
        said.push(format!("changed on disk, in force after `systemctl restart hafailover`: {what}"));
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
        let answer = apply(Ok(loaded(running.clone(), "new")), &running, &mut held, &beat);
        assert_eq!(answer, Answer::Done("the keys are taken over".into()));
        assert_eq!(held, keys("new"));
        let told: Vec<ToBeat> = inbox.drain().collect();
        assert!(matches!(&told[0], ToBeat::Keys(new) if *new == keys("new")), "{told:?}");
        assert!(matches!(&told[1], ToBeat::Event(Event::Pending(None))), "{told:?}");
        assert_eq!(
            apply(Ok(loaded(running.clone(), "new")), &running, &mut held, &beat),
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
        let answer = apply(Err(vec![problem(3, "first"), problem(9, "second")]), &running, &mut held, &beat);
        let Answer::Refused(text) = answer else { panic!("{answer:?}") };
        assert!(text.contains("hafailover.toml:3:2: first; do otherwise"), "{text}");
        assert!(text.contains("hafailover.toml:9:2: second"), "{text}");
        assert_eq!(inbox.drain().count(), 0);
        assert_eq!(held, keys("old"));
    }
}
