//! One booted host: its files, its power, its processes. It must not know clusters.

use crate::client::Responder;
use crate::ensure;
use crate::netwatch::NetWatch;
use crate::root::Root;
use crate::sweep::{self, LAB};
use crate::sys::{self, Result, run, wait_for};
use crate::wires::{LANS, Seat, Wires};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A host boots in about a second; a busy machine may need many.
const BOOT_LIMIT: Duration = Duration::from_secs(40);
/// Behind its first process the kernel ends all others of a host.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Seconds that a command on a host may take, and what `timeout` exits with beyond it.
const COMMAND_LIMIT: &str = "45";
const TIMED_OUT: i32 = 124;

#[derive(Debug)]
pub struct Host {
    pub seat: Seat,
    dir: PathBuf,
    wires: Rc<Wires>,
    watch: Rc<NetWatch>,
    echoed: Vec<Ipv4Addr>,
    power: Option<Power>,
    wreck: Option<Power>,
    /// How often it was switched on.
    boots: u32,
}

/// What exists while the host is on.
#[derive(Debug)]
struct Power {
    supervisor: Child,
    leader: u32,
    responder: Responder,
}

impl Host {
    /// Unpacks a fresh host, off. `echoed` are the addresses under which it will answer the client when it has them.
    pub fn make(seat: Seat, root: &Root, wires: Rc<Wires>, watch: Rc<NetWatch>, echoed: Vec<Ipv4Addr>) -> Result<Host> {
        let dir = Path::new(LAB).join(seat.name);
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let at = dir.display();
        let layers = format!("lowerdir={},upperdir={at}/upper,workdir={at}/work", root.layers);
        run("mount", &["-t", "overlay", "hafailover-lab", "-o", &layers, &dir.join("root").to_string_lossy()])?;
        let host = Host { seat, dir, wires, watch, echoed, power: None, wreck: None, boots: 0 };
        host.write("etc/hostname", &format!("{}\n", host.seat.name))?;
        host.write("etc/machine-id", &format!("{:032x}\n", 0x1ab0_0000_u64 + u64::from(host.seat.number)))?;
        Ok(host)
    }

    pub fn name(&self) -> &'static str {
        self.seat.name
    }

    pub fn is_on(&self) -> bool {
        self.power.is_some()
    }

    /// A path of the host as this machine sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.join("root").join(path.trim_start_matches('/'))
    }

    /// The same for what the running host has mounted itself, `/run` above all.
    pub fn live_path(&self, path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root", self.leader()?)).join(path.trim_start_matches('/')))
    }

    pub fn write(&self, path: &str, text: &str) -> Result {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a path below the host's root"))?;
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    pub fn remove(&self, path: &str) -> Result {
        fs::remove_file(self.path(path)).map_err(|error| format!("{path} on {}: {error}", self.name()).into())
    }

    /// Plugs the host in and returns at once; `wait_booted` waits.
    pub fn switch_on(&mut self) -> Result {
        self.switch_on_without(&[])
    }

    /// The same where these interfaces are missing from the first moment on.
    pub fn switch_on_without(&mut self, missing: &[&str]) -> Result {
        ensure!(self.power.is_none(), "{} is on already", self.name());
        self.clear_wreck()?;
        self.wires.plug(&self.seat)?;
        self.watch.add_host(self.name(), &self.seat.namespace())?;
        missing.iter().try_for_each(|lan| self.wires.take(&self.seat, lan))?;
        let responder = Responder::start(&self.seat.namespace(), &self.echoed)?;
        self.boots += 1;
        let mut supervisor = self.nspawn()?.spawn()?;
        let nspawn = supervisor.id();
        let leader = wait_for("the host's first process", BOOT_LIMIT, || {
            sweep::children(nspawn).into_iter().find(|pid| is_init(*pid))
        });
        let leader = leader.inspect_err(|_| {
            let _ = supervisor.kill();
        })?;
        self.power = Some(Power { supervisor, leader, responder });
        Ok(())
    }

    pub fn wait_booted(&self) -> Result {
        wait_for(&format!("{} to boot", self.name()), BOOT_LIMIT, || {
            // "degraded" has booted too: a unit failed, which is for the scenario to judge.
            let (_, state) = self.attempt(&["systemctl", "is-system-running"]).ok()?;
            ["running", "degraded"].contains(&state.trim()).then_some(())
        })
    }

    /// As `run`, for what may fail: exit code and both streams. What does not end at all is a failure of its own.
    pub fn attempt(&self, command: &[&str]) -> Result<(i32, String)> {
        let output = self.command(command)?.stdin(Stdio::null()).output()?;
        let ended = output.status.code() != Some(TIMED_OUT);
        ensure!(ended, "{}: `{}` did not end within {COMMAND_LIMIT} s", self.name(), command.join(" "));
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok((output.status.code().unwrap_or(-1), text))
    }

    /// Runs a command on the host that has to succeed, and returns what it printed.
    pub fn run(&self, command: &[&str]) -> Result<String> {
        let output = self.command(command)?.stdin(Stdio::null()).output()?;
        sys::printed(&format!("{}: {}", self.name(), command.join(" ")), &output)
    }

    /// Begins a command on the host whose end is for the caller to wait for; what it says is lost.
    pub fn begin(&self, command: &[&str]) -> Result<Child> {
        let mut command = self.command(command)?;
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// A bounded command in all of the host's namespaces.
    fn command(&self, command: &[&str]) -> Result<Command> {
        let mut bounded = Command::new("timeout");
        bounded.args([
            "--kill-after=1",
            COMMAND_LIMIT,
            "nsenter",
            "--all",
            "--target",
            &self.leader()?.to_string(),
            "--",
        ]);
        bounded.args(command).env("TERM", "dumb").env("LC_ALL", "C.UTF-8");
        Ok(bounded)
    }

    /// An interactive shell, on the terminal this process has.
    pub fn shell(&self) -> Result {
        let mut shell = Command::new("nsenter");
        shell.args(["--all", "--target", &self.leader()?.to_string(), "--", "bash", "--login"]);
        shell.env("PS1", format!("{}# ", self.name())).status()?;
        Ok(())
    }

    /// Cut from everything at once, then every process killed. Returns when the last packet may have left. What else has to
    /// go (the namespace, its addresses) is out of reach behind the cut, and goes before the host is switched on again: taking
    /// it down now would hold the kernel's network lock in the very milliseconds of the takeover.
    pub fn lose_power(&mut self) -> Result<Instant> {
        let cut = self.wires.cut(&self.seat, &LANS)?;
        self.go_dark(cut);
        Ok(cut)
    }

    fn go_dark(&mut self, at: Instant) {
        if let Some(mut power) = self.power.take() {
            // Of a host that has gone off by itself the number may be somebody else's by now.
            let supervised = matches!(power.supervisor.try_wait(), Ok(None));
            if supervised && sweep::children(power.supervisor.id()).contains(&power.leader) {
                sweep::kill(power.leader);
            }
            self.watch.host_died(self.name(), at);
            self.wreck = Some(power);
        }
    }

    fn clear_wreck(&mut self) -> Result {
        let Some(mut wreck) = self.wreck.take() else { return Ok(()) };
        drop(wreck.responder);
        let supervisor = &mut wreck.supervisor;
        let ended =
            wait_for(&format!("the end of {}", self.name()), END_LIMIT, || supervisor.try_wait().ok().flatten());
        if ended.is_err() {
            supervisor.kill()?;
            supervisor.wait()?;
        }
        ended?;
        self.wires.unplug(&self.seat)
    }

    /// Waits until the host has switched itself off (poweroff, reboot), and clears up after it.
    pub fn wait_off(&mut self, limit: Duration) -> Result {
        let Some(power) = &mut self.power else { return Ok(()) };
        let supervisor = &mut power.supervisor;
        wait_for("the host to go off", limit, || supervisor.try_wait().ok().flatten())?;
        self.go_dark(Instant::now());
        self.clear_wreck()
    }

    /// Stops every process of the host without killing one; the kernel goes on answering.
    pub fn freeze(&self) -> Result {
        self.signal_all(Signal::STOP)
    }

    pub fn thaw(&self) -> Result {
        self.signal_all(Signal::CONT)
    }

    fn signal_all(&self, signal: Signal) -> Result {
        // The first process last: while it is stopped it cannot miss a child.
        for pid in self.pids()? {
            send(pid, signal)?;
        }
        send(self.leader()?, signal)
    }

    /// All processes of the host but the first, as this machine counts them.
    fn pids(&self) -> Result<Vec<u32>> {
        let leader = self.leader()?;
        let home = fs::read_link(format!("/proc/{leader}/ns/pid"))?;
        let entries = fs::read_dir("/proc")?.flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let inside = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|namespace| namespace == home);
        Ok(pids.filter(|pid| *pid != leader && inside(pid)).collect())
    }

    /// The main process of a service, as this machine counts it.
    pub fn main_pid(&self, unit: &str) -> Result<Option<u32>> {
        let inner = self.property(unit, "MainPID")?;
        if inner == "0" {
            return Ok(None);
        }
        let known = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("NSpid:"));
            line.and_then(|line| line.split_whitespace().last()).is_some_and(|last| last == inner)
        };
        Ok(self.pids()?.into_iter().find(known))
    }

    pub fn property(&self, unit: &str, property: &str) -> Result<String> {
        Ok(self.run(&["systemctl", "show", "--value", "-p", property, unit])?.trim().to_string())
    }

    /// Neither active nor on the way there or back: no process of it runs.
    pub fn is_down(&self, unit: &str) -> Result<bool> {
        Ok(["inactive", "failed"].contains(&self.property(unit, "ActiveState")?.as_str()))
    }

    pub fn is_active(&self, unit: &str) -> Result<bool> {
        Ok(self.property(unit, "ActiveState")? == "active")
    }

    /// Runs journalctl over the host's journal, which is readable also while the host is off.
    pub fn journal(&self, arguments: &[&str]) -> Result<String> {
        let directory = self.path("var/log/journal");
        let mut command = vec!["--quiet", "--no-pager", "-D", directory.to_str().expect("made from plain names")];
        command.extend(arguments);
        run("journalctl", &command)
    }

    /// Fails if systemd ever broke a cycle of orderings on this host: it may have dropped our own stop for it. What it says
    /// while it boots comes before the journal, and stands on the console alone.
    pub fn no_ordering_cycle(&self) -> Result {
        let journal = self.journal(&["-o", "cat", "_PID=1"])?;
        let console = String::from_utf8_lossy(&fs::read(self.dir.join("console"))?).into_owned();
        for (place, text) in [("journal", journal), ("console", console)] {
            ensure!(!text.is_empty(), "{}: nothing of systemd is in the {place}", self.name());
            let cycle = text.lines().find(|line| line.to_lowercase().contains("ordering cycle"));
            ensure!(cycle.is_none(), "{}: {}", self.name(), cycle.unwrap_or_default());
        }
        Ok(())
    }

    /// The journal's entries with these fields (`FIELD=value`), oldest first, from `since` on.
    pub fn said(&self, matches: &[&str], since: Instant) -> Result<Vec<Entry>> {
        let mut command = vec!["-o", "json"];
        command.extend(matches);
        let text = self.journal(&command)?;
        let entries = text.lines().filter_map(Entry::read);
        Ok(entries.filter(|entry| entry.at >= since).collect())
    }

    /// How long systemd took to `start` or `stop` the unit the first time since then, by its own journal.
    pub fn job(&self, unit: &str, job: &str, since: Instant) -> Result<Duration> {
        let entries = self.said(&["_PID=1", &format!("UNIT={unit}"), &format!("JOB_TYPE={job}")], since)?;
        let begun = entries.iter().find(|entry| entry.field("JOB_RESULT").is_none());
        let done = entries.iter().find(|entry| entry.field("JOB_RESULT") == Some("done"));
        match (begun, done) {
            (Some(begun), Some(done)) => Ok(done.at.saturating_duration_since(begun.at)),
            _ => Err(format!("{}: no {job} of {unit} in the journal: {entries:?}", self.name()).into()),
        }
    }

    fn leader(&self) -> Result<u32> {
        self.power.as_ref().map(|power| power.leader).ok_or_else(|| format!("{} is off", self.name()).into())
    }

    fn nspawn(&self) -> Result<Command> {
        let console = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("console"))?;
        let mut command = self.own_cgroup()?;
        command.args(["--quiet", "--register=no", "--keep-unit", "--link-journal=no", "--boot"]);
        command.args(["--capability=all", "--resolv-conf=off"]);
        command.arg(format!("--machine=hafailover-lab-{}", self.name())).arg(format!("--hostname={}", self.name()));
        command.arg(format!("--directory={}", self.dir.join("root").display()));
        command.arg(format!("--network-namespace-path=/run/netns/{}", self.seat.namespace()));
        command.arg(format!("--bind={LAB}/shared:/srv/shared"));
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        Ok(command)
    }

    /// The beginning of a command that becomes systemd-nspawn in a cgroup of its own. Two hosts in one would take each
    /// other's services for their own, and kill them.
    fn own_cgroup(&self) -> Result<Command> {
        let cgroups = sweep::cgroups(self.name());
        if cgroups.is_empty() {
            let mut command = Command::new("systemd-run");
            command.args(["--scope", "--quiet", "--collect", "--property=Delegate=yes"]);
            // The unit of the last time may not have gone yet.
            let unit = format!("hafailover-lab-{}-{}-{}", self.name(), std::process::id(), self.boots);
            command.arg(format!("--unit={unit}")).arg("systemd-nspawn");
            return Ok(command);
        }
        for cgroup in &cgroups {
            fs::create_dir_all(cgroup)?;
        }
        let cgroups: Vec<_> = cgroups.iter().map(|cgroup| cgroup.display().to_string()).collect();
        let script = "for c in $CGROUPS; do echo $$ >$c/cgroup.procs || exit 1; done; exec systemd-nspawn \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "systemd-nspawn"]).env("CGROUPS", cgroups.join(" "));
        Ok(command)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.go_dark(Instant::now());
        let _ = self.clear_wreck();
        let _ = run("umount", &["--lazy", &self.dir.join("root").to_string_lossy()]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// One entry of a journal.
#[derive(Debug)]
pub struct Entry {
    pub at: Instant,
    pub message: String,
    fields: serde_json::Value,
}

impl Entry {
    fn read(line: &str) -> Option<Entry> {
        let fields: serde_json::Value = serde_json::from_str(line).ok()?;
        let at = fields.get("__MONOTONIC_TIMESTAMP")?.as_str()?.parse().ok()?;
        let message = fields.get("MESSAGE").and_then(|text| text.as_str()).unwrap_or_default().to_string();
        Some(Entry { at: sys::at_monotonic(Duration::from_micros(at)), message, fields })
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }
}

/// True for the first process of a container; systemd-nspawn has other children for a moment.
fn is_init(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field =
        |name: &str| status.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_whitespace().last());
    field("Name:") == Some("systemd") && field("NSpid:") == Some("1")
}

pub fn send(pid: u32, signal: Signal) -> Result {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("no such process id")?;
    kill_process(pid, signal).map_err(|error| format!("signal to {pid:?}: {error}").into())
}
