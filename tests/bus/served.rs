//! A bus, and a daemon on it whose status the test writes. It must not know what is tested with it.

use crate::daemon::BusDaemon;
use hafailover::cluster::status::{GroupStatus, Status};
use hafailover::cluster::{Answer, Command as Order};
use hafailover::config::model::{Config, NodeConfig, NodeId, NodeTag, ProofPolicy, TakeoverConfig, Timing};
use hafailover::config::model::{Failback, GroupConfig, GroupTag};
use hafailover::dbus::{Desk, Served, serve_on};
use hafailover::host::questions::Question;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// Lets anybody do anything, like a system bus with an open policy: what is refused is refused by what is tested.
const OPEN: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"#;

/// Ends with the test.
pub struct Bus {
    daemon: BusDaemon,
    directory: PathBuf,
}

impl Bus {
    pub fn start() -> Bus {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("hafailover-bus-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("there is room in /tmp");
        // Other users look for the program here; the build's own directory may be closed to them.
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        std::fs::copy(env!("CARGO_BIN_EXE_hafailoverctl"), directory.join("hafailoverctl")).expect("it was built");
        let file = directory.join("bus.conf");
        std::fs::write(&file, OPEN).expect("it is ours");
        let daemon = BusDaemon::start(&format!("--config-file={}", file.display()));
        Bus { daemon, directory }
    }

    pub fn address(&self) -> &str {
        &self.daemon.address
    }

    pub fn builder(&self) -> zbus::connection::Builder<'static> {
        self.daemon.builder()
    }

    pub async fn connect(&self) -> zbus::Connection {
        self.builder().build().await.expect("the bus lets everybody in")
    }

    /// `hafailoverctl` with these words, for the caller to start.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.directory.join("hafailoverctl"));
        command.args(words).env("DBUS_SYSTEM_BUS_ADDRESS", self.address()).env("PATH", self.path());
        command.stdin(Stdio::null());
        command
    }

    /// A program beside `hafailoverctl`, found before others of its name.
    pub fn install(&self, name: &str, script: &str) {
        let path = self.directory.join(name);
        std::fs::write(&path, script).expect("it is ours");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    /// Where the shell finds `hafailoverctl`.
    pub fn path(&self) -> String {
        format!("{}:{}", self.directory.display(), std::env::var("PATH").unwrap_or_default())
    }

    pub async fn hafailoverctl(&self, words: &[&str]) -> Output {
        run(self.command(words)).await
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub async fn run(mut command: Command) -> Output {
    let run = tokio::task::spawn_blocking(move || command.output());
    run.await.expect("the thread ends").expect("it can be started")
}

/// Exit code and both streams.
pub fn seen(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Nodes alpha (this one) and beta, one group web.
fn config() -> Config {
    let second = Duration::from_secs(1);
    let node = |name: &str, tag| NodeConfig { name: name.into(), tag: NodeTag(tag) };
    Config {
        cluster: "shop".into(),
        cluster_tag: 1,
        nodes: vec![node("alpha", 1), node("beta", 2)],
        me: NodeId(0),
        timing: Timing { keepalive: second, warntime: second, deadtime: second, initdead: second },
        links: vec![],
        takeover: TakeoverConfig { proof: ProofPolicy::Silence, delay: Duration::ZERO },
        groups: vec![GroupConfig {
            name: "web".into(),
            tag: GroupTag(1),
            description: String::new(),
            nodes: vec![NodeId(0), NodeId(1)],
            addresses: vec![],
            members: vec![],
            failback: Failback::No,
            proof: ProofPolicy::Silence,
            delay: Duration::ZERO,
            interfaces: vec![],
            timeout_start: second,
            timeout_stop: second,
            digest: 0,
        }],
        cluster_digest: 0,
    }
}

/// All is well, and web runs on alpha.
pub fn status() -> Status {
    serde_json::from_str(include_str!("status.json")).expect("it is one")
}

/// Runs on alpha.
pub fn group(name: &str) -> GroupStatus {
    GroupStatus { name: name.into(), ..status().groups.remove(0) }
}

/// What is served, what it asks, and how it is told of changes.
pub fn desk() -> (Desk, mpsc::Receiver<Question>, Arc<Notify>) {
    let (asks, questions) = mpsc::channel(4);
    let changed = Arc::new(Notify::new());
    (Desk::new(watch::channel(Arc::new(config())).1, asks, changed.clone()), questions, changed)
}

/// A daemon as the bus sees it: tells the status that the test wrote, and does whatever it is told.
pub struct Daemon {
    _served: Served,
    status: Arc<Mutex<Status>>,
    changed: Arc<Notify>,
    /// What it was told to do, oldest first.
    pub told: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    pub async fn start(bus: &Bus) -> Daemon {
        let (desk, mut questions, changed) = desk();
        let (status, told) = (Arc::new(Mutex::new(status())), Arc::new(Mutex::new(Vec::new())));
        let (now, orders) = (status.clone(), told.clone());
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                // Whoever asked may have gone.
                match question {
                    Question::Status(answer) => drop(answer.send(now.lock().expect("no panic").clone())),
                    Question::Command(order, answer) => {
                        orders.lock().expect("no panic").push(word(&order).to_owned());
                        let _ = answer.send(Answer::Done("done".into()));
                    }
                    Question::Record(_, answer) => {
                        orders.lock().expect("no panic").push("record".into());
                        let _ = answer.send(Answer::Done("done".into()));
                    }
                    Question::Reload(answer) => {
                        orders.lock().expect("no panic").push("reload".into());
                        let _ = answer.send(Answer::Done("done".into()));
                    }
                }
            }
        });
        let served = serve_on(bus.builder(), Arc::new(desk)).await.expect("the name is free");
        Daemon { _served: served, status, changed, told }
    }

    pub fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().expect("no panic"));
        self.changed.notify_one();
    }

    pub fn told(&self) -> Vec<String> {
        self.told.lock().expect("no panic").clone()
    }
}

fn word(order: &Order) -> &'static str {
    match order {
        Order::Move { .. } => "move",
        Order::Stop { .. } => "stop",
        Order::Start { .. } => "start",
        Order::Clear { .. } => "clear",
        Order::Standby { .. } => "standby",
        Order::Takeover { .. } => "takeover",
        Order::Online => "online",
        Order::Maintenance { .. } => "setmaintenance",
    }
}
