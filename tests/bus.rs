//! `hafailoverctl` against a served `org.hafailover1`, over a real bus of the test's own.

use hafailover::cluster::status::{SCHEMA, Status};
use hafailover::cluster::{Answer, Command as Order};
use hafailover::config::model::{Config, NodeConfig, NodeId, NodeTag, ProofPolicy, TakeoverConfig, Timing};
use hafailover::config::model::{GroupConfig, GroupId, GroupTag};
use hafailover::dbus::serve_on;
use hafailover::host::questions::Question;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A bus that lets anybody do anything; ends with the test.
struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    fn start() -> Bus {
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address=1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon is installed (its own Debian package)");
        let mut address = String::new();
        let out = daemon.stdout.take().expect("its output is a pipe");
        BufReader::new(out).read_line(&mut address).expect("it prints its address");
        Bus { daemon, address: address.trim().to_owned() }
    }

    async fn hafailoverctl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hafailoverctl"));
        command.args(words).env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        let run = tokio::task::spawn_blocking(move || command.output());
        run.await.expect("the thread ends").expect("hafailoverctl was built")
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

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
            failback: false,
            proof: ProofPolicy::Silence,
            delay: Duration::ZERO,
            interfaces: vec![],
            timeout_start: second,
            timeout_stop: second,
            digest: 0,
        }],
        cluster_digest: 0,
        groups_digest: 0,
    }
}

fn status(attention: &[&str]) -> Status {
    Status {
        schema: SCHEMA,
        cluster: "shop".into(),
        node: "alpha".into(),
        version: "0.1.0".into(),
        state: "joined".into(),
        nodes: vec![],
        links: vec![],
        groups: vec![],
        rollout: vec![],
        attention: attention.iter().map(|line| line.to_string()).collect(),
    }
}

/// A daemon's host thread, as far as the bus sees it: the first status needs attention, later ones do not.
async fn answer(mut questions: mpsc::Receiver<Question>) {
    let mut attention: &[&str] = &["beta is dead"];
    while let Some(question) = questions.recv().await {
        let told = match question {
            Question::Status(answer) => answer.send(status(std::mem::take(&mut attention))).is_ok(),
            Question::Command(Order::Move { group: GroupId(0), to: NodeId(1) }, answer) => {
                answer.send(Answer::Refused("beta is banned".into())).is_ok()
            }
            Question::Command(Order::Stop { group: GroupId(0) }, answer) => {
                answer.send(Answer::Done("web is stopped".into())).is_ok()
            }
            Question::Command(_, answer) => answer.send(Answer::Failed("in vain".into())).is_ok(),
            Question::Reload(answer) => answer.send(Answer::Refused("2 mistakes\nhere\nand there".into())).is_ok(),
        };
        assert!(told, "whoever asks waits for the answer");
    }
}

fn seen(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn answers_refusals_and_failures_reach_the_shell_with_their_exit_codes() {
    let bus = Bus::start();
    let nobody = seen(&bus.hafailoverctl(&["status"]).await);
    assert_eq!(nobody.0, Some(4), "{nobody:?}");
    assert!(nobody.2.contains("systemctl start hafailover"), "{nobody:?}");

    let (asks, questions) = mpsc::channel(1);
    let server = zbus::connection::Builder::address(bus.address.as_str());
    let served = serve_on(server, watch::channel(Arc::new(config())).1, asks).await.expect("the name is free");
    tokio::spawn(answer(questions));

    let troubled = seen(&bus.hafailoverctl(&["status"]).await);
    assert_eq!(troubled.0, Some(1), "{troubled:?}");
    assert!(troubled.1.contains("! beta is dead"), "{troubled:?}");
    let well = seen(&bus.hafailoverctl(&["status", "--json"]).await);
    assert_eq!(well.0, Some(0), "{well:?}");
    let json: Status = serde_json::from_str(&well.1).expect("JSON");
    assert_eq!((json.schema, json.node.as_str()), (SCHEMA, "alpha"));

    let expected = |code, out: &str, err: &str| (Some(code), out.to_owned(), err.to_owned());
    let said = async |words: &[&str]| seen(&bus.hafailoverctl(words).await);
    assert_eq!(said(&["stop", "web"]).await, expected(0, "web is stopped", ""));
    assert_eq!(said(&["move", "web", "beta"]).await, expected(3, "", "refused: beta is banned"));
    assert_eq!(said(&["clear", "web"]).await, expected(1, "", "failed: in vain"));
    assert_eq!(said(&["reload"]).await, expected(3, "", "refused: 2 mistakes\nhere\nand there"));
    let unknown = "refused: there is no node \"gamma\" in the running configuration; there is: alpha, beta";
    assert_eq!(said(&["move", "web", "gamma"]).await, expected(3, "", unknown));
    drop(served);
}
