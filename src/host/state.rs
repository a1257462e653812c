//! What survives a reboot: per group the record and the operator's order, and operators' words on maintenance and standby, in
//! `/var/lib/hafailover/state.json`.
//! It must not know what a record means. Nodes stand in it by name, so that a changed order of `nodes` changes nothing.

use crate::cluster::{BootId, Epoch, Grant, Maintenance, Order, Record, Saved, SavedGroup, Standby};
use crate::config::model::Config;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The directories this host's daemon keeps things in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// `/run/hafailover`
    pub run: PathBuf,
    /// `/var/lib/hafailover`
    pub state: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Places { run: "/run/hafailover".into(), state: "/var/lib/hafailover".into() }
    }
}

impl Places {
    fn state_file(&self) -> PathBuf {
        self.state.join("state.json")
    }

    /// The file whose existence lets systemd start the members of a group.
    pub fn grant_file(&self, group: &str) -> PathBuf {
        self.run.join("grant").join(group)
    }
}

/// What tells this host from one that runs a copy of its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub machine_id: String,
    /// Of the firmware; empty where it tells none.
    pub product_uuid: String,
}

impl Identity {
    pub fn read() -> Identity {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Identity { machine_id: text("/etc/machine-id"), product_uuid: text("/sys/class/dmi/id/product_uuid") }
    }
}

/// Version of the file's form. Another one is not guessed at.
const FORM: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    form: u32,
    identity: Identity,
    groups: BTreeMap<String, StateGroup>,
    /// Left out as long as no operator said anything, as everything that came later: older versions read it then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    maintenance: Option<StateWord>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    standby: Option<StateWord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateWord {
    version: u32,
    on: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateGroup {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    record: Option<StateRecord>,
    order_version: u32,
    order_stopped: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    parked: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateRecord {
    epoch: u32,
    node: String,
    /// Hexadecimal: JSON numbers do not hold 64 bits everywhere.
    boot: String,
    released: bool,
    /// Whom the releaser gave the group to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    heir: Option<String>,
}

/// What the disk holds, and notes on what was wrong with it. A bad file is kept aside and counts as none:
/// this node then knows nothing, which is what it says.
pub fn load(places: &Places, config: &Config, identity: &Identity) -> (Saved, Vec<String>) {
    let path = places.state_file();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Default::default(),
        Err(error) => return (Saved::default(), vec![set_aside(&path, &error.to_string())]),
    };
    match serde_json::from_str::<StateFile>(&text) {
        Ok(file) if file.form != FORM => {
            let reason = format!("its form is {}, this version reads form {FORM}", file.form);
            (Saved::default(), vec![set_aside(&path, &reason)])
        }
        Ok(file) if file.identity != *identity => {
            let reason = "it was written on another machine (a copied disk?)";
            (Saved::default(), vec![set_aside(&path, reason)])
        }
        Ok(file) => adopt(file, config),
        Err(error) => (Saved::default(), vec![set_aside(&path, &error.to_string())]),
    }
}

fn adopt(file: StateFile, config: &Config) -> (Saved, Vec<String>) {
    let mut saved = Saved::default();
    if let Some(StateWord { version, on }) = file.maintenance {
        saved.maintenance = Maintenance { version, on };
    }
    if let Some(StateWord { version, on }) = file.standby {
        saved.standby = Standby { version, on };
    }
    let mut notes = Vec::new();
    for (name, group) in file.groups {
        let record = group.record.and_then(|record| match adopt_record(&record, config) {
            Ok(record) => Some(record),
            Err(reason) => {
                notes.push(format!("the saved record of group {name} is not used: {reason}"));
                None
            }
        });
        let order = Order { version: group.order_version, stopped: group.order_stopped };
        saved.groups.insert(name, SavedGroup { record, order, parked: group.parked });
    }
    (saved, notes)
}

fn adopt_record(record: &StateRecord, config: &Config) -> Result<Record, String> {
    let node = config.find_node(&record.node).ok_or_else(|| format!("{} is no node of this cluster", record.node))?;
    let boot = u64::from_str_radix(&record.boot, 16).map_err(|_| format!("{} is no boot id", record.boot))?;
    let grant = Grant { epoch: Epoch(record.epoch), node, boot: BootId(boot) };
    let heir = match &record.heir {
        Some(name) => Some(config.find_node(name).ok_or_else(|| format!("{name} is no node of this cluster"))?),
        None => None,
    };
    Ok(Record { grant, released: record.released, heir })
}

/// Keeps a file that cannot be used for whoever wants to look at it; answers with the note.
fn set_aside(path: &Path, reason: &str) -> String {
    let bad = path.with_extension("json.bad");
    let shown = path.display();
    match std::fs::rename(path, &bad) {
        Ok(()) => format!(
            "{shown} is not used: {reason}. It is kept as {}. This node starts without a memory of former owners",
            bad.display()
        ),
        Err(error) => format!("{shown} is not used: {reason}; and it cannot be moved aside: {error}"),
    }
}

/// Writes and waits for the disk: never call it on a thread that has anything else to do.
pub fn save(places: &Places, config: &Config, identity: &Identity, saved: &Saved) -> io::Result<()> {
    let groups = saved.groups.iter().map(|(name, group)| (name.clone(), state_group(group, config))).collect();
    let word = |version, on| (version != 0).then_some(StateWord { version, on });
    let file = StateFile {
        form: FORM,
        identity: identity.clone(),
        groups,
        maintenance: word(saved.maintenance.version, saved.maintenance.on),
        standby: word(saved.standby.version, saved.standby.on),
    };
    let mut text = serde_json::to_string_pretty(&file)?;
    text.push('\n');
    write_durably(&places.state_file(), text.as_bytes())
}

fn state_group(group: &SavedGroup, config: &Config) -> StateGroup {
    let record = group.record.map(|record| StateRecord {
        epoch: record.grant.epoch.0,
        node: config.node(record.grant.node).name.clone(),
        boot: format!("{:016x}", record.grant.boot.0),
        released: record.released,
        heir: record.heir.map(|heir| config.node(heir).name.clone()),
    });
    StateGroup { record, order_version: group.order.version, order_stopped: group.order.stopped, parked: group.parked }
}

/// Either the old content or the new, whole, also after a power loss.
fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::{TempPlaces, config};

    fn identity() -> Identity {
        Identity { machine_id: "m1".into(), product_uuid: "p1".into() }
    }

    fn saved(config: &Config) -> Saved {
        let node = config.find_node("beta").unwrap();
        let grant = Grant { epoch: Epoch(4), node, boot: BootId(u64::MAX - 1) };
        let record = Some(Record { grant, released: true, heir: config.find_node("alpha") });
        let group = SavedGroup { record, order: Order { version: 2, stopped: true }, parked: true };
        Saved {
            groups: BTreeMap::from([("web".to_owned(), group)]),
            maintenance: Maintenance { version: 3, on: true },
            standby: Standby { version: 1, on: true },
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_a_changed_order_of_nodes_changes_nothing() {
        let places = TempPlaces::new("state-roundtrip");
        let config_one = config(&["alpha", "beta"]);
        save(&places, &config_one, &identity(), &saved(&config_one)).unwrap();
        assert_eq!(load(&places, &config_one, &identity()), (saved(&config_one), vec![]));
        let turned = config(&["beta", "alpha"]);
        assert_eq!(load(&places, &turned, &identity()), (saved(&turned), vec![]));
    }

    #[test]
    fn no_file_is_no_memory_and_no_note() {
        let places = TempPlaces::new("state-none");
        assert_eq!(load(&places, &config(&["alpha"]), &identity()), (Saved::default(), vec![]));
    }

    #[test]
    fn another_machine_is_lost_storage() {
        let places = TempPlaces::new("state-copied");
        let config = config(&["alpha", "beta"]);
        save(&places, &config, &identity(), &saved(&config)).unwrap();
        let other = Identity { product_uuid: "p2".into(), ..identity() };
        let (loaded, notes) = load(&places, &config, &other);
        assert_eq!(loaded, Saved::default());
        assert!(notes[0].contains("another machine"), "{notes:?}");
        assert!(places.state.join("state.json.bad").exists());
    }

    #[test]
    fn a_broken_file_is_kept_aside_with_a_note() {
        let places = TempPlaces::new("state-broken");
        std::fs::write(places.state.join("state.json"), "{\"form\": 1, ").unwrap();
        let (loaded, notes) = load(&places, &config(&["alpha"]), &identity());
        assert_eq!(loaded, Saved::default());
        assert!(notes[0].contains("state.json.bad"), "{notes:?}");
        assert_eq!(load(&places, &config(&["alpha"]), &identity()).1.len(), 0);
    }

    #[test]
    fn a_record_of_a_node_that_left_the_cluster_is_dropped_with_a_note_and_the_order_kept() {
        let places = TempPlaces::new("state-gone-node");
        let both = config(&["alpha", "beta"]);
        save(&places, &both, &identity(), &saved(&both)).unwrap();
        let (loaded, notes) = load(&places, &config(&["alpha"]), &identity());
        assert_eq!(loaded.groups["web"].record, None);
        assert!(loaded.groups["web"].order.stopped);
        assert!(notes[0].contains("beta is no node"), "{notes:?}");
    }
}
