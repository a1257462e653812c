//! Who may change something: root, and whom polkit allows it. The polkit here is the test's own, and says what the test says.

use crate::served::{Bus, Daemon, run, seen};
use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use zbus::OwnedVariant;

/// Some user who is not root.
const NOBODY: u32 = 65534;

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Yes,
    No,
    /// Yes, if a password were typed.
    Password,
}

/// What was asked: kind and name of the subject, action, details, flags.
#[derive(Clone, Debug)]
struct Asked {
    kind: String,
    action: String,
    details: HashMap<String, String>,
    flags: u32,
}

struct Polkit {
    verdict: Arc<Mutex<Verdict>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// One permit for each answer that may be given.
    answers: Arc<Semaphore>,
    /// Gone with this.
    _connection: zbus::Connection,
}

struct Authority {
    verdict: Arc<Mutex<Verdict>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Semaphore>,
}

#[zbus::interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Authority {
    async fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedVariant>),
        action: String,
        details: HashMap<String, String>,
        flags: u32,
        _cancellation: String,
    ) -> (bool, bool, HashMap<String, String>) {
        self.asked.lock().expect("no panic").push(Asked { kind: subject.0, action, details, flags });
        self.answers.acquire().await.expect("it is never closed").forget();
        match *self.verdict.lock().expect("no panic") {
            Verdict::Yes => (true, false, HashMap::new()),
            Verdict::No => (false, false, HashMap::new()),
            Verdict::Password => (false, true, HashMap::new()),
        }
    }
}

impl Polkit {
    async fn start(bus: &Bus, verdict: Verdict, answers: usize) -> Polkit {
        let (verdict, answers) = (Arc::new(Mutex::new(verdict)), Arc::new(Semaphore::new(answers)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let authority = Authority { verdict: verdict.clone(), asked: asked.clone(), answers: answers.clone() };
        let connection = bus.builder().serve_at("/org/freedesktop/PolicyKit1/Authority", authority);
        let connection = connection.name("org.freedesktop.PolicyKit1").build().await.expect("the name is free");
        Polkit { verdict, asked, answers, _connection: connection }
    }

    fn says(&self, verdict: Verdict) {
        *self.verdict.lock().expect("no panic") = verdict;
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    async fn wait_asked(&self, count: usize) {
        for _ in 0..1000 {
            if self.asked().len() >= count {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("polkit was asked {} times, not {count}", self.asked().len());
    }
}

fn as_nobody(mut command: Command) -> Command {
    assert!(rustix::process::geteuid().is_root(), "only root can become somebody else: nothing was tested");
    command.uid(NOBODY).gid(NOBODY);
    command
}

async fn nobody(bus: &Bus, words: &[&str]) -> (Option<i32>, String, String) {
    seen(&run(as_nobody(bus.command(words))).await)
}

#[tokio::test]
async fn without_polkit_root_does_everything_and_others_read() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    assert_eq!(nobody(&bus, &["status"]).await.0, Some(0));
    assert_eq!(nobody(&bus, &["why", "web"]).await.0, Some(0));
    let refused = nobody(&bus, &["stop", "web"]).await;
    assert_eq!(refused.0, Some(3), "{refused:?}");
    assert!(refused.2.contains("polkit") && refused.2.contains("only root"), "{refused:?}");
    assert_eq!(daemon.told(), [""; 0]);
    assert_eq!(seen(&bus.hafailoverctl(&["stop", "web"]).await).0, Some(0));
    assert_eq!(daemon.told(), ["stop"]);
}

#[tokio::test]
async fn polkit_is_asked_for_the_right_action_and_its_word_counts() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let polkit = Polkit::start(&bus, Verdict::Yes, 100).await;
    assert_eq!(nobody(&bus, &["move", "web", "beta"]).await, (Some(0), "done".into(), String::new()));
    assert_eq!(nobody(&bus, &["reload"]).await.0, Some(0));
    assert_eq!(daemon.told(), ["move", "reload"]);
    let asked = polkit.asked();
    assert_eq!(
        (asked[0].kind.as_str(), asked[0].action.as_str()),
        ("system-bus-name", "org.hafailover1.manage-groups")
    );
    let details = [("group", "web"), ("node", "beta")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(asked[0].details, HashMap::from(details));
    assert_eq!(asked[0].flags, 1, "hafailoverctl lets polkit ask for a password");
    assert_eq!(asked[1].action, "org.hafailover1.reload");
    for (verdict, why) in [(Verdict::No, "does not allow"), (Verdict::Password, "wants a password")] {
        polkit.says(verdict);
        let refused = nobody(&bus, &["stop", "web"]).await;
        assert_eq!(refused.0, Some(3), "{refused:?}");
        assert!(refused.2.contains(why) && refused.2.contains("user 65534"), "{refused:?}");
    }
    assert_eq!(daemon.told().len(), 2, "{:?}", daemon.told());
    let before = polkit.asked().len();
    assert_eq!(seen(&bus.hafailoverctl(&["stop", "web"]).await).0, Some(0), "root needs no polkit");
    assert_eq!(polkit.asked().len(), before);
    let unknown = nobody(&bus, &["stop", "wbe"]).await;
    assert!(unknown.2.contains("there is no group"), "{unknown:?}");
    assert_eq!(polkit.asked().len(), before, "nobody is asked for a password to stop what is not there");
}

#[tokio::test]
async fn who_waits_for_a_password_holds_nobody_up() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let polkit = Polkit::start(&bus, Verdict::Yes, 0).await;
    let waiting = tokio::spawn(run(as_nobody(bus.command(&["stop", "web"]))));
    polkit.wait_asked(1).await;
    assert_eq!(seen(&bus.hafailoverctl(&["clear", "web"]).await).0, Some(0));
    assert_eq!(nobody(&bus, &["status"]).await.0, Some(0));
    daemon.change(|status| status.groups[0].epoch = 8);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(nobody(&bus, &["status"]).await.0, Some(0), "nor does it hold up what is published");
    assert!(!waiting.is_finished());
    polkit.answers.add_permits(1);
    assert_eq!(seen(&waiting.await.expect("no panic")).0, Some(0));
    assert_eq!(daemon.told(), ["clear", "stop"]);
}

#[tokio::test]
async fn who_left_before_the_answer_gets_nothing_done() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let polkit = Polkit::start(&bus, Verdict::Yes, 0).await;
    let mut command = as_nobody(bus.command(&["stop", "web"]));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it was built");
    polkit.wait_asked(1).await;
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    sleep(Duration::from_millis(100)).await;
    polkit.answers.add_permits(1);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(daemon.told(), [""; 0]);
}

/// What a method is called with here; a new one belongs into this table.
fn arguments(method: &str) -> &'static [&'static str] {
    match method {
        "Status" | "Reload" => &[],
        "Why" | "Stop" | "Start" | "Clear" => &["s", "web"],
        "Move" => &["ss", "web", "beta"],
        "Record" => &["s", "off"],
        "Standby" => &["sb", "all", "false"],
        "Takeover" => &["s", "all"],
        "Online" => &[],
        "SetMaintenance" => &["b", "true"],
        other => panic!("{other} is new: say here what it is called with"),
    }
}

#[tokio::test]
async fn whatever_is_not_reading_is_refused_to_others() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let polkit = Polkit::start(&bus, Verdict::No, 1000).await;
    let xml = include_str!("../../packaging/interfaces/org.hafailover1.Manager.xml");
    let methods: Vec<&str> = xml.split("<method name=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(methods.len() >= 7, "{methods:?}");
    for method in methods {
        let mut call = Command::new("busctl");
        call.arg("--allow-interactive-authorization=no");
        call.args([&format!("--address={}", bus.address()), "call", "org.hafailover1", "/org/hafailover1"]);
        call.args(["org.hafailover1.Manager", method]).args(arguments(method)).stdin(Stdio::null());
        let (code, out, err) = seen(&run(as_nobody(call)).await);
        if ["Status", "Why"].contains(&method) {
            assert_eq!(code, Some(0), "{method}: {out} {err}");
        } else {
            assert!(code != Some(0) && err.contains("may not do this"), "{method}: {code:?} {out} {err}");
        }
    }
    assert_eq!(daemon.told(), [""; 0]);
    assert!(polkit.asked().iter().all(|asked| asked.flags == 0), "busctl did not allow questions to people");
}

#[tokio::test]
async fn on_a_terminal_polkits_own_agent_asks_for_passwords_and_goes_again() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let _polkit = Polkit::start(&bus, Verdict::Yes, 100).await;
    // Says how it was called, that it is ready, and how it ends.
    let agent = "#!/bin/bash\nlog=/tmp/agent-of-$5\ntrap 'echo ended >>$log; exit' TERM\n\
                 echo \"$@\" >$log\neval \"exec $2>&-\"\nfor i in {1..400}; do sleep 0.05; done\n";
    bus.install("pkttyagent", agent);
    let on_terminal = async |words: &str| {
        let mut command = Command::new("script");
        let line = format!("sh -c 'echo pid $$; exec hafailoverctl {words}'");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("PATH", bus.path());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus.address()).stdin(Stdio::null());
        let (code, said, _) = seen(&run(as_nobody(command)).await);
        let pid = said.lines().find_map(|line| line.trim().strip_prefix("pid ")).expect("it says so").to_owned();
        let log = std::fs::read_to_string(format!("/tmp/agent-of-{pid}"));
        drop(std::fs::remove_file(format!("/tmp/agent-of-{pid}")));
        (code, log.ok().map(|log| log.replace(&pid, "PID")))
    };
    assert_eq!(on_terminal("status").await, (Some(0), None), "reading takes no password");
    let (code, log) = on_terminal("stop web").await;
    let log = log.expect("an agent was there");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.starts_with("--notify-fd ") && log.contains(" --fallback --process PID\nended"), "{log}");
    assert_eq!(daemon.told(), ["stop"]);
}
