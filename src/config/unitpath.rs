//! Where groups are found: systemd's search path, which files apply to a unit, and in which order.
//! The order was taken down from systemd 252 (`systemd --test` over a tree with every possible drop-in).
//! It must not know what the files say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub(crate) const TEMPLATE: &str = "hafailover-group@.target";
pub(crate) const PREFIX: &str = "hafailover-group@";
const SUFFIX: &str = ".target";

/// The directories for units, first one first. `system.control` is where `systemctl set-property` writes. Left out are those
/// that no administrator fills: `transient`, `generator` (ours among them) and `system.attached` of portable services.
pub(super) const SEARCH_PATH: [&str; 6] = [
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
];

/// `web` to `hafailover-group@web.target`.
pub(crate) fn target_of(instance: &str) -> String {
    format!("{PREFIX}{instance}{SUFFIX}")
}

/// Whether a unit is the target of some group.
pub(crate) fn is_group_target(unit: &str) -> bool {
    unit.starts_with(PREFIX) && unit.ends_with(SUFFIX)
}

/// The instances for which a unit file or a drop-in directory of their own exists, sorted.
pub(crate) fn instances(search_path: &[PathBuf]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in search_path {
        for name in names_in(directory) {
            let unit = name.strip_suffix(".d").unwrap_or(&name);
            let instance = unit.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
            found.extend(instance.filter(|instance| !instance.is_empty()).map(str::to_owned));
        }
    }
    found
}

/// The files that make up the unit of one instance, in the order in which their settings apply:
/// the unit file, or else the template; then the drop-ins.
pub(crate) fn files_of(search_path: &[PathBuf], instance: &str) -> Vec<PathBuf> {
    let unit = target_of(instance);
    let main = [unit.as_str(), TEMPLATE]
        .iter()
        .find_map(|name| search_path.iter().map(|directory| directory.join(name)).find(|file| exists(file)));
    let mut files: Vec<PathBuf> = main.into_iter().collect();
    files.extend(drop_ins(search_path, instance));
    files
}

/// Drop-ins merge in the order of their names over all directories; the first directory with a name wins it,
/// and a link to /dev/null there leaves nothing.
fn drop_ins(search_path: &[PathBuf], instance: &str) -> Vec<PathBuf> {
    let folders = [
        format!("{PREFIX}{instance}{SUFFIX}.d"),
        format!("{TEMPLATE}.d"),
        // The prefix rule of systemd.unit(5): the name cut behind its last dash.
        "hafailover-.target.d".to_owned(),
        format!("hafailover-@{instance}{SUFFIX}.d"),
        "hafailover-@.target.d".to_owned(),
    ];
    let specific = search_path.iter().flat_map(|directory| folders.iter().map(move |folder| directory.join(folder)));
    let of_the_type = search_path.iter().map(|directory| directory.join("target.d"));
    let mut by_name: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in specific.chain(of_the_type) {
        for name in names_in(&folder) {
            if name.ends_with(".conf") && !name.starts_with('.') {
                by_name.entry(name.clone()).or_insert_with(|| folder.join(name));
            }
        }
    }
    by_name.into_values().collect()
}

/// A dangling link or a link to /dev/null counts: systemd takes it for the file, and so masks the unit.
fn exists(file: &Path) -> bool {
    file.symlink_metadata().is_ok()
}

/// Names that are no UTF-8 cannot be ours: neither unit names nor drop-ins that systemd would load.
fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = directory.read_dir() else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree {
        root: PathBuf,
    }

    impl Tree {
        fn new(name: &str) -> Tree {
            let root = std::env::temp_dir().join(format!("hafailover-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&root);
            Tree { root }
        }

        fn write(&self, file: &str) {
            let file = self.root.join(file);
            std::fs::create_dir_all(file.parent().expect("below the root")).expect("a folder");
            std::fs::write(file, "").expect("a file");
        }

        fn search_path(&self) -> Vec<PathBuf> {
            ["etc", "run", "usr"].iter().map(|folder| self.root.join(folder)).collect()
        }

        fn files(&self) -> Vec<String> {
            let files = files_of(&self.search_path(), "web");
            files.iter().map(|f| f.strip_prefix(&self.root).expect("below").display().to_string()).collect()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }

    // The expected order is what systemd 252 printed as "DropIn Path" for the same tree.
    #[test]
    fn same_named_drop_ins_win_in_systemds_order() {
        let tree = Tree::new("precedence");
        let folders = [
            "hafailover-group@web.target.d",
            "hafailover-group@.target.d",
            "hafailover-.target.d",
            "hafailover-@web.target.d",
            "hafailover-@.target.d",
        ];
        let mut winners = Vec::new();
        for directory in ["etc", "run", "usr"] {
            winners.extend(folders.iter().map(|folder| format!("{directory}/{folder}/10.conf")));
        }
        winners.extend(["etc", "run", "usr"].iter().map(|directory| format!("{directory}/target.d/10.conf")));
        for file in &winners {
            tree.write(file);
        }
        tree.write("etc/hafailover-group-.target.d/10.conf");
        for winner in winners {
            assert_eq!(tree.files().join(" "), winner);
            std::fs::remove_file(tree.root.join(winner)).expect("removed");
        }
        assert_eq!(tree.files(), [""; 0]);
    }

    #[test]
    fn drop_ins_merge_by_name_behind_the_unit_file() {
        let tree = Tree::new("order");
        for file in [
            "usr/hafailover-group@.target",
            "run/hafailover-group@web.target.d/20.conf",
            "etc/hafailover-group@web.target.d/30.conf",
            "usr/hafailover-group@web.target.d/10.conf",
            "etc/hafailover-group@web.target.d/.hidden.conf",
            "etc/hafailover-group@web.target.d/40.conf~",
        ] {
            tree.write(file);
        }
        let drop_ins = ["usr/…/10.conf", "run/…/20.conf", "etc/…/30.conf"];
        let drop_ins = drop_ins.map(|file| file.replace('…', "hafailover-group@web.target.d"));
        assert_eq!(tree.files()[0], "usr/hafailover-group@.target");
        assert_eq!(tree.files()[1..], drop_ins);
        tree.write("usr/hafailover-group@web.target");
        assert_eq!(tree.files()[0], "usr/hafailover-group@web.target", "a file of its own replaces the template");
    }

    #[test]
    fn instances_come_from_files_and_drop_ins() {
        let tree = Tree::new("instances");
        tree.write("usr/hafailover-group@.target");
        tree.write("usr/hafailover-group@.target.d/a.conf");
        tree.write("etc/hafailover-group@web.target.d/a.conf");
        tree.write("run/hafailover-group@db.target");
        tree.write("run/hafailover-group@db.target.wants/x.service");
        assert_eq!(instances(&tree.search_path()).into_iter().collect::<Vec<_>>(), ["db", "web"]);
    }
}
