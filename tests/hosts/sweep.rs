//! Removes whatever a lab left behind: processes, mounts, namespaces, cgroups. It runs before a lab, after it, and when
//! it is interrupted, and finds things by the names that only a lab gives.

use crate::sys::run;
use crate::wires::PREFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where a lab keeps everything that lives only as long as it does.
pub const LAB: &str = "/run/hafailover-lab";
const CGROUP: &str = "hafailover-lab";

/// Ends and removes everything. Goes on after each error: what is left is reported by the next lab that trips over it.
pub fn sweep() {
    let supervisors = supervisors();
    for pid in &supervisors {
        for leader in children(*pid) {
            kill(leader);
        }
    }
    let patience = Instant::now() + Duration::from_secs(3);
    while supervisors.iter().any(|pid| running(*pid)) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    supervisors.iter().filter(|pid| running(**pid)).for_each(|pid| kill(*pid));
    for mount in mounts().iter().rev() {
        let _ = run("umount", &["--lazy", mount]);
    }
    let _ = fs::remove_dir(LAB);
    for namespace in namespaces() {
        let _ = run("ip", &["netns", "del", &namespace]);
    }
    for place in cgroup_roots() {
        remove_cgroup(&place.join(CGROUP));
    }
}

/// What a sweep would remove, in words; empty where nothing is left.
pub fn leftovers() -> Vec<String> {
    let mut left: Vec<String> = supervisors().iter().map(|pid| format!("process {pid}")).collect();
    left.extend(mounts().iter().map(|mount| format!("mount {mount}")));
    left.extend(namespaces().iter().map(|namespace| format!("namespace {namespace}")));
    left
}

/// A cgroup for this host in every hierarchy that the service manager uses: two hosts in one would kill each other's services.
pub fn cgroups(host: &str) -> Vec<PathBuf> {
    cgroup_roots().into_iter().map(|place| place.join(CGROUP).join(host)).collect()
}

/// Empty where systemd runs this machine: there it makes a scope for each host itself.
fn cgroup_roots() -> Vec<PathBuf> {
    if Path::new("/run/systemd/system").exists() {
        return Vec::new();
    }
    let hybrid = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    let present: Vec<_> = hybrid.into_iter().filter(|path| path.exists()).collect();
    if present.is_empty() { vec![PathBuf::from("/sys/fs/cgroup")] } else { present }
}

/// Every systemd-nspawn that runs a host of a lab.
fn supervisors() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.split('\0').next().is_some_and(|program| program.ends_with("systemd-nspawn")) && line.contains(LAB)
    })
    .collect()
}

pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// False also for a process that is dead and only waits to be collected.
pub fn running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

pub fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(1));
    points.filter(|point| *point == LAB || point.starts_with(&format!("{LAB}/"))).map(String::from).collect()
}

fn namespaces() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(PREFIX)).collect()
}

fn remove_cgroup(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    let _ = fs::remove_dir(path);
}
