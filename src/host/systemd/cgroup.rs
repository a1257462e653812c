//! Whether processes are left in a unit's control group, asked of the kernel and of nobody else.

use std::io;
use std::path::{Path, PathBuf};

/// Where systemd keeps its own hierarchy: alone (unified), beside the others (hybrid), or in the old form.
const ROOTS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

/// The processes in the control group and below it. A group that is gone has none.
/// An error means that it is not known.
pub fn processes(control_group: &str) -> io::Result<Vec<u32>> {
    processes_under(&ROOTS.map(Path::new), control_group)
}

fn processes_under(roots: &[&Path], control_group: &str) -> io::Result<Vec<u32>> {
    if control_group.is_empty() {
        return Ok(Vec::new());
    }
    let mut mounted = false;
    let mut found = Vec::new();
    for root in roots.iter().filter(|root| root.join("cgroup.procs").exists()) {
        mounted = true;
        collect(&below(root, control_group), &mut found)?;
    }
    if !mounted {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no control group hierarchy is mounted below /sys/fs/cgroup",
        ));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn below(root: &Path, control_group: &str) -> PathBuf {
    root.join(control_group.trim_start_matches('/'))
}

fn collect(directory: &Path, found: &mut Vec<u32>) -> io::Result<()> {
    match std::fs::read_to_string(directory.join("cgroup.procs")) {
        Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
        // Removed: nothing can be in it. ENODEV is how cgroupfs says so for a file already open.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => return Ok(()),
        // A threaded group: its processes stand in the parent's file.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_processes_in_nested_groups_and_none_in_a_missing_one() {
        let root = std::env::temp_dir().join(format!("hafailover-cgroup-{}", std::process::id()));
        let inner = root.join("a.service/payload");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(root.join("cgroup.procs"), "1\n").unwrap();
        std::fs::write(root.join("a.service/cgroup.procs"), "").unwrap();
        std::fs::write(inner.join("cgroup.procs"), "12\n13\n").unwrap();
        let missing = root.join("unified");
        let roots = [root.as_path(), missing.as_path()];
        assert_eq!(processes_under(&roots, "/a.service").unwrap(), [12, 13]);
        assert_eq!(processes_under(&roots, "/gone.service").unwrap(), Vec::<u32>::new());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn without_any_hierarchy_it_is_not_known() {
        let nowhere = Path::new("/nonexistent/cgroup");
        assert!(processes_under(&[nowhere], "/a.service").is_err());
        assert_eq!(processes_under(&[nowhere], "").unwrap(), Vec::<u32>::new(), "a unit that never had a group");
    }

    #[test]
    fn no_control_group_means_no_processes() {
        assert_eq!(processes("").unwrap(), Vec::<u32>::new());
    }
}
