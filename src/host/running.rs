//! The configuration that runs, as it was adopted: kept in `/run`, and on disk for the next boot. A daemon goes on with it, whatever the
//! files say meanwhile, and what cleans up after a dead daemon uses nothing else.
//! It must not know what a configuration means.

use super::state::Places;
use crate::config::authkeys;
use crate::config::model::Config;
use crate::wire::seal::KeySet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

fn config_file(places: &Places) -> PathBuf {
    places.run.join("running.json")
}

fn keys_file(places: &Places) -> PathBuf {
    places.run.join("running-authkeys")
}

/// On disk: what was adopted outlives a boot.
fn adopted_file(places: &Places) -> PathBuf {
    places.state.join("adopted.json")
}

/// Called once the configuration was found sound and before anything acts on it; again when `reload` took new keys. The keys that were
/// taken, whatever their file says by now: it may be on a disk that hangs.
pub fn keep_keys(places: &Places, keys: &KeySet) -> io::Result<()> {
    ensure(&keys_file(places), &authkeys::text_of(keys))
}

/// Written before anything is done by it: whoever follows a daemon finds all that it may have left.
pub fn note(places: &Places, config: &Config) -> io::Result<()> {
    ensure(&config_file(places), &text_of(config)?)
}

/// The same on disk. Waits for the disk: never call it on a thread that has anything else to do.
pub fn keep(places: &Places, config: &Config) -> io::Result<()> {
    let text = text_of(config)?;
    if is_there(&adopted_file(places), &text) {
        return Ok(());
    }
    std::fs::create_dir_all(&places.state)?;
    replace(&adopted_file(places), &text)?;
    File::open(&places.state)?.sync_all()
}

/// Without the places of groups that are gone.
fn text_of(config: &Config) -> io::Result<Vec<u8>> {
    let mut config = config.clone();
    config.groups.retain(|group| !group.is_gone());
    Ok(serde_json::to_vec_pretty(&config)?)
}

/// What this node runs by its last adoption, of this boot or, where that cannot be read, as it is on disk; and what could not be read.
/// Nothing: it never adopted any.
pub fn adopted(places: &Places) -> (Option<Config>, Vec<String>) {
    let mut unread = Vec::new();
    for path in [config_file(places), adopted_file(places)] {
        let found = match std::fs::read(&path) {
            Ok(text) => parse(&path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(format!("{}: {error}", path.display())),
        };
        match found {
            Ok(config) => return (Some(config), unread),
            Err(error) => unread.push(error),
        }
    }
    (None, unread)
}

/// The keys that the last daemon of this boot used.
pub fn last_keys(places: &Places) -> Result<KeySet, String> {
    authkeys::load(&keys_file(places)).map(|(keys, _)| keys).map_err(|problems| problems[0].to_string())
}

pub fn load(places: &Places) -> Result<(Config, KeySet), String> {
    let (config, unread) = adopted(places);
    let config = config.ok_or_else(|| match unread.is_empty() {
        true => format!("{}: no such file", config_file(places).display()),
        false => unread.join("; "),
    })?;
    Ok((config, last_keys(places)?))
}

fn parse(path: &Path, text: &[u8]) -> Result<Config, String> {
    let config: Config = serde_json::from_slice(text).map_err(|error| format!("{}: {error}", path.display()))?;
    if config.is_whole() {
        Ok(config)
    } else {
        Err(format!("{}: it means nodes that it does not name", path.display()))
    }
}

/// A start that changes nothing must not fail for want of room.
fn ensure(path: &Path, content: &[u8]) -> io::Result<()> {
    if is_there(path, content) { Ok(()) } else { replace(path, content) }
}

/// As [`replace`] leaves it.
fn is_there(path: &Path, content: &[u8]) -> bool {
    let closed = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o777 == 0o600);
    closed(path) && std::fs::read(path).is_ok_and(|there| there == content)
}

/// Secrets are in it: nobody else may read it, not even for a moment.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::{TempPlaces, config};
    use crate::wire::seal::{Key, Method};
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_runs_is_found_again_and_nobody_else_reads_it() {
        let places = TempPlaces::new("running");
        let key = Key { method: Method::Sha256, secret: "0123456789abcdef".into() };
        let keys = KeySet::new(1, BTreeMap::from([(1, key)])).unwrap();
        let config = config(&["alpha", "beta"]);
        assert_eq!(adopted(&places), (None, Vec::new()), "nothing was adopted yet");
        for _ in 0..2 {
            keep_keys(&places, &keys).unwrap();
            note(&places, &config).unwrap();
            keep(&places, &config).unwrap();
        }
        for file in [config_file(&places), adopted_file(&places), keys_file(&places)] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let text = std::fs::read_to_string(config_file(&places)).unwrap();
        std::fs::write(config_file(&places), text.replacen("\"me\": 0", "\"me\": 2", 1)).unwrap();
        let (instead, unread) = adopted(&places);
        assert!(unread[0].contains("does not name"), "whoever looks the node up would panic");
        assert_eq!(instead.as_ref(), Some(&config), "what is on disk is better than nothing");
        assert_eq!(load(&places).unwrap().0, config);
        std::fs::write(config_file(&places), text).unwrap();
        // There are no files; what runs is not in need of them.
        assert_eq!(load(&places).unwrap(), (config.clone(), keys));
        // Another boot.
        std::fs::remove_file(config_file(&places)).unwrap();
        assert_eq!(adopted(&places), (Some(config), Vec::new()));
    }

    #[test]
    fn what_is_there_already_needs_no_room() {
        let places = TempPlaces::new("running-full");
        let keys = |secret: &str| {
            let key = Key { method: Method::Sha256, secret: secret.into() };
            KeySet::new(1, BTreeMap::from([(1, key)])).unwrap()
        };
        let one = config(&["alpha"]);
        keep_keys(&places, &keys("0123456789abcdef")).unwrap();
        note(&places, &one).unwrap();
        // Where a directory has the name of the new file, writing it fails like on a full file system.
        for file in ["running.new", "running-authkeys.new"] {
            std::fs::create_dir(places.run.join(file)).unwrap();
        }
        keep_keys(&places, &keys("0123456789abcdef")).unwrap();
        note(&places, &one).unwrap();
        assert!(keep_keys(&places, &keys("another")).is_err() && note(&places, &config(&["beta"])).is_err());
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(keys_file(&places), open).unwrap();
        assert!(keep_keys(&places, &keys("0123456789abcdef")).is_err(), "others can read them");
    }

    #[test]
    fn the_place_of_a_group_that_is_gone_is_nothing_to_go_on_with() {
        let places = TempPlaces::new("running-gone");
        let mut config = config(&["alpha", "beta"]);
        let gone = config.groups.remove(0);
        let wanted = config.clone();
        config.groups.insert(0, crate::config::model::GroupConfig::gone(&gone.name, gone.tag));
        note(&places, &config).unwrap();
        assert_eq!(adopted(&places), (Some(wanted), Vec::new()));
        std::fs::write(config_file(&places), "{").unwrap();
        let (none, unread) = adopted(&places);
        assert!(none.is_none() && unread[0].contains("running.json"), "half a file is not no file");
        assert!(load(&places).unwrap_err().contains("running.json"));
    }
}
