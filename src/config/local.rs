//! `local.toml`: what differs on this host alone. Outside the configuration digest.
//! It must not know what its names are used for.

use super::cluster::Cluster;
use super::groups::Groups;
use super::problem::{Problem, did_you_mean};
use super::tree::{Found, Reader, Section};
use super::{name, read_text};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(super) struct Local {
    file: PathBuf,
    hostname: String,
    /// `node = "alpha"`: who this host is, where `uname -n` does not tell.
    pub(super) node: Option<Found<String>>,
    /// The name in the cluster's files, and the name here.
    interfaces: BTreeMap<String, Found<String>>,
}

pub(super) fn load(file: &Path, hostname: &str, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) -> Local {
    let mut local =
        Local { file: file.to_owned(), hostname: hostname.to_lowercase(), node: None, interfaces: BTreeMap::new() };
    let text = match read_text(file) {
        Ok(text) => text.unwrap_or_default(),
        Err(problem) => {
            problems.push(problem);
            return local;
        }
    };
    let (mut reader, tree) = Reader::parse(file, &text);
    if let Some(tree) = &tree {
        let top = reader.top(tree);
        read(&mut reader, top, &mut local);
    }
    problems.append(&mut reader.findings.problems);
    warnings.append(&mut reader.findings.warnings);
    local
}

fn read(reader: &mut Reader<'_>, top: Section<'_>, local: &mut Local) {
    if let Some(at) = reader.key_at(top, "watchdog") {
        let remedy = "remove it; proof = \"silence\" needs no watchdog";
        reader.findings.problem(at, "not built yet in this version: the watchdog", remedy);
    }
    reader.known_keys(top, &["node", "interfaces", "watchdog"]);
    if let Some(node) = reader.string(top, "node") {
        let value = node.value.to_lowercase();
        match name::check_node(&value) {
            Ok(()) => local.node = Some(Found { value, at: node.at }),
            Err(what) => {
                reader.findings.problem(node.at, what, "write the name that [cluster] nodes gives this host");
            }
        }
    }
    let Some(section) = reader.table(top, "interfaces", "[interfaces]") else { return };
    let mut here: BTreeMap<String, String> = BTreeMap::new();
    for key in reader.keys(section) {
        let Some(found) = reader.string(section, &key.value) else { continue };
        if let Err(what) = name::check_interface(&found.value) {
            reader.findings.problem(found.at, what, "write the interface as `ip link` names it on this host");
        } else if let Some(twin) = here.get(&found.value) {
            let what = format!("\"{}\" stands for {twin} already", found.value);
            reader.findings.problem(found.at, what, "two names of the cluster cannot be one interface here");
        } else {
            here.insert(found.value.clone(), key.value.clone());
            local.interfaces.insert(key.value, Found { value: found.value, at: key.at });
        }
    }
}

impl Local {
    /// What this host is called in the cluster, if it is in it.
    pub(super) fn node_name(&self) -> &str {
        self.node.as_ref().map_or(&self.hostname, |node| &node.value)
    }

    /// The interface on this host.
    pub(super) fn interface(&self, name: &str) -> String {
        self.interfaces.get(name).map_or_else(|| name.to_owned(), |found| found.value.clone())
    }

    /// The same for the digest: no host renames anything.
    pub(super) fn of_no_host() -> Local {
        Local { file: PathBuf::new(), hostname: String::new(), node: None, interfaces: BTreeMap::new() }
    }

    /// Warns of renamed interfaces that nothing uses: mostly a slip of the pen.
    pub(super) fn check_use(&self, cluster: &Cluster, groups: &Groups, warnings: &mut Vec<Problem>) {
        // With mistakes elsewhere, what is used is not known.
        if cluster.links.is_empty() {
            return;
        }
        let links = cluster.links.iter().map(|link| link.interface.as_str());
        let used: Vec<&str> =
            links.chain(groups.groups.iter().flat_map(|g| g.interfaces.iter().map(String::as_str))).collect();
        for (name, found) in &self.interfaces {
            if !used.contains(&found.value.as_str()) {
                let names: Vec<&str> = cluster.links.iter().map(|link| link.name.as_str()).collect();
                let what = format!("no link and no group uses an interface \"{name}\"");
                warnings.push(Problem::new(&self.file, found.at, what, did_you_mean(name, &names)));
            }
        }
    }
}
