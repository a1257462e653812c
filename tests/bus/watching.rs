//! What people see from outside: `monitor`, and what a shell completes.

use crate::served::{Bus, Daemon, run, seen, status};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use zbus::object_server::SignalEmitter;

const LONG: Duration = Duration::from_secs(10);

/// A running `monitor`, line by line.
struct Monitor {
    child: Child,
    lines: Receiver<String>,
}

impl Monitor {
    fn start(bus: &Bus, words: &[&str]) -> Monitor {
        let mut child = bus.command(words).stdout(Stdio::piped()).spawn().expect("it was built");
        let out = child.stdout.take().expect("its output is a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // Nobody waits for the rest.
                let _ = sender.send(line);
            }
        });
        Monitor { child, lines }
    }

    /// The next line, without its time where it has one in front.
    async fn next(&self) -> String {
        let end = std::time::Instant::now() + LONG;
        loop {
            match self.lines.try_recv() {
                Ok(line) => return line.split_once("Z ").map_or(line.clone(), |(_, rest)| rest.to_owned()),
                Err(error) => assert!(std::time::Instant::now() < end, "no further line: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_monitor_writes_a_line_for_each_change_and_outlives_the_daemon() {
    let bus = Bus::start();
    let nobody = seen(&bus.hafailoverctl(&["monitor"]).await);
    assert_eq!(nobody.0, Some(4), "{nobody:?}");
    let daemon = Daemon::start(&bus).await;
    let (prose, json) = (Monitor::start(&bus, &["monitor"]), Monitor::start(&bus, &["monitor", "--json"]));
    assert_eq!(prose.next().await, "group web: owner alpha (alpha owns it)");
    let first: serde_json::Value = serde_json::from_str(&json.next().await).expect("JSON");
    assert_eq!((first["schema"].as_u64(), first["event"].as_str()), (Some(1), Some("GroupOwner")));
    daemon.change(|status| {
        status.groups[0].owner = None;
        status.nodes[1].state = "lost".into();
    });
    assert_eq!(prose.next().await, "node beta: lost, was alive");
    assert_eq!(prose.next().await, "group web: owner nobody, was alpha");
    drop(daemon);
    assert_eq!(prose.next().await, "hafailoverd ended here");
    let _daemon = Daemon::start(&bus).await;
    assert_eq!(prose.next().await, "hafailoverd runs here");
    assert_eq!(prose.next().await, "group web: owner alpha (alpha owns it)");
}

/// A daemon that says more while it is asked for its status than any queue holds.
struct Talker;

#[zbus::interface(name = "org.hafailover1.Manager")]
impl Talker {
    async fn status(&self, #[zbus(signal_emitter)] to: SignalEmitter<'_>) -> String {
        for number in 0..TALKED {
            Talker::alarm(&to, &format!("number {number}")).await.expect("the bus is there");
        }
        serde_json::to_string(&status()).expect("JSON")
    }

    #[zbus(signal)]
    async fn alarm(to: &SignalEmitter<'_>, text: &str) -> zbus::Result<()>;
}

const TALKED: usize = 400;

#[tokio::test]
async fn what_is_signalled_while_the_status_is_asked_for_neither_stops_it_nor_is_lost() {
    let bus = Bus::start();
    let builder = bus.builder().name("org.hafailover1").serve_at("/org/hafailover1", Talker);
    let _talker = builder.build().await.expect("the name is free");
    let monitor = Monitor::start(&bus, &["monitor"]);
    assert_eq!(monitor.next().await, "group web: owner alpha (alpha owns it)");
    for number in 0..TALKED {
        assert_eq!(monitor.next().await, format!("needs attention: number {number}"));
    }
}

#[tokio::test]
async fn a_signal_of_somebody_else_is_not_shown() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let monitor = Monitor::start(&bus, &["monitor"]);
    assert_eq!(monitor.next().await, "group web: owner alpha (alpha owns it)");
    let intruder = bus.connect().await;
    let dbus = zbus::fdo::DBusProxy::new(&intruder).await.expect("the bus answers");
    for name in dbus.list_names().await.expect("the bus answers").iter().filter(|name| name.starts_with(':')) {
        for (interface, member) in
            [("org.hafailover1.Manager", "GroupOwnerChanged"), ("org.freedesktop.DBus", "NameOwnerChanged")]
        {
            let body = &("org.hafailover1", "", "beta");
            let sent = intruder.emit_signal(Some(name.as_str()), "/org/hafailover1", interface, member, body);
            sent.await.expect("the bus takes it");
        }
    }
    daemon.change(|status| status.groups[0].owner = None);
    assert_eq!(monitor.next().await, "group web: owner nobody, was alpha");
}

#[tokio::test]
async fn a_monitor_ends_with_the_bus_and_says_so() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let mut command = bus.command(&["monitor"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was built");
    // Its first line: from then on it watches.
    let out = child.stdout.take().expect("its output is a pipe");
    let read = tokio::task::spawn_blocking(move || BufReader::new(out).lines().next().is_some());
    assert!(read.await.expect("the thread ends"));
    drop((bus, daemon));
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
    let ended = seen(&ended.await.expect("the thread ends").expect("it ends"));
    assert_eq!(ended.0, Some(4), "{ended:?}");
    assert!(ended.2.contains("the system bus went away"), "{ended:?}");
}

/// What bash offers after these words.
async fn completed(bus: &Bus, words: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/completions/hafailoverctl.bash");
    let mut bash = Command::new("bash");
    let line = format!(
        "source {}; COMP_WORDS=(hafailoverctl {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
         _hafailoverctl; echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    bash.args(["-c", &line]).env("PATH", bus.path()).env("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
    seen(&run(bash).await).1
}

#[tokio::test]
async fn bash_completes_commands_and_the_names_that_the_daemon_knows() {
    let bus = Bus::start();
    assert_eq!(completed(&bus, "mov").await, "move");
    assert_eq!(completed(&bus, "move ''").await, "", "without a daemon nothing is known");
    let _daemon = Daemon::start(&bus).await;
    assert_eq!(completed(&bus, "move ''").await, "web");
    assert_eq!(completed(&bus, "move web ''").await, "alpha beta");
    assert_eq!(completed(&bus, "status --js").await, "--json");
}
