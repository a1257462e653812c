//! The configuration that runs, kept in `/run`: a daemon that is started anew while groups run here goes on with it when the files
//! have become unreadable meanwhile, and what cleans up after a dead daemon uses nothing else.
//! It must not know what a configuration means.

use super::state::Places;
use crate::config::model::Config;
use crate::config::{Paths, authkeys};
use crate::wire::seal::KeySet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

fn config_file(places: &Places) -> PathBuf {
    places.run.join("running.json")
}

fn keys_file(places: &Places) -> PathBuf {
    places.run.join("running-authkeys")
}

/// Called once the configuration was found sound and before anything acts on it; again when `reload` took new keys.
pub fn keep(places: &Places, paths: &Paths, config: &Config) -> io::Result<()> {
    let keys = std::fs::read(paths.credential.as_ref().unwrap_or(&paths.authkeys))?;
    replace(&keys_file(places), &keys)?;
    replace(&config_file(places), &serde_json::to_vec_pretty(config)?)
}

pub fn load(places: &Places) -> Result<(Config, KeySet), String> {
    let path = config_file(places);
    let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let config: Config = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if !config.is_whole() {
        return Err(format!("{}: it means nodes that it does not name", path.display()));
    }
    let (keys, _) = authkeys::load(&keys_file(places)).map_err(|problems| problems[0].to_string())?;
    Ok((config, keys))
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
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::{TempPlaces, config};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_runs_is_found_again_and_nobody_else_reads_it() {
        let places = TempPlaces::new("running");
        let paths = Paths::under(&places.state);
        std::fs::create_dir_all(paths.authkeys.parent().unwrap()).unwrap();
        std::fs::write(&paths.authkeys, "auth 1\n1 sha256 0123456789abcdef\n").unwrap();
        std::fs::set_permissions(&paths.authkeys, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = config(&["alpha", "beta"]);
        keep(&places, &paths, &config).unwrap();
        keep(&places, &paths, &config).unwrap();
        for file in [config_file(&places), keys_file(&places)] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let text = std::fs::read_to_string(config_file(&places)).unwrap();
        std::fs::write(config_file(&places), text.replacen("\"me\": 0", "\"me\": 2", 1)).unwrap();
        assert!(load(&places).unwrap_err().contains("does not name"), "whoever looks the node up would panic");
        std::fs::write(config_file(&places), text).unwrap();
        // The files are gone; what runs is not.
        std::fs::remove_file(&paths.authkeys).unwrap();
        let (found, keys) = load(&places).unwrap();
        assert_eq!(found, config);
        assert!(keys.open(&keys.seal(vec![1])).is_ok());
    }
}
