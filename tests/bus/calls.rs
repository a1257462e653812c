//! Calls: what `hafailoverctl` makes of answers, refusals and failures.

use crate::served::{Bus, desk, seen};
use hafailover::cluster::status::{SCHEMA, Status};
use hafailover::cluster::{Answer, Command as Order};
use hafailover::config::model::{GroupId, NodeId};
use hafailover::dbus::serve_on;
use hafailover::host::questions::Question;
use hafailover::host::recording::RecordWord;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A daemon's host thread, as far as the bus sees it: its status needs attention until a group was stopped.
async fn answer(mut questions: mpsc::Receiver<Question>) {
    let mut attention = vec!["beta is dead".to_owned()];
    while let Some(question) = questions.recv().await {
        let told = match question {
            Question::Status(answer) => {
                answer.send(Status { attention: attention.clone(), ..crate::served::status() }).is_ok()
            }
            Question::Command(Order::Move { group: GroupId(0), to: NodeId(1) }, answer) => {
                answer.send(Answer::Refused("beta is banned".into())).is_ok()
            }
            Question::Command(Order::Stop { group: GroupId(0) }, answer) => {
                attention.clear();
                answer.send(Answer::Done("web is stopped".into())).is_ok()
            }
            Question::Command(_, answer) => answer.send(Answer::Failed("in vain".into())).is_ok(),
            Question::Record(RecordWord::Off, answer) => answer.send(Answer::Done("recorded: 9 lines".into())).is_ok(),
            Question::Record(_, answer) => answer.send(Answer::Failed("nothing is recorded: no room".into())).is_ok(),
            Question::Reload(answer) => answer.send(Answer::Refused("2 mistakes\nhere\nand there".into())).is_ok(),
        };
        assert!(told, "whoever asks waits for the answer");
    }
}

#[tokio::test]
async fn answers_refusals_and_failures_reach_the_shell_with_their_exit_codes() {
    let bus = Bus::start();
    let nobody = seen(&bus.hafailoverctl(&["status"]).await);
    assert_eq!(nobody.0, Some(4), "{nobody:?}");
    assert!(nobody.2.contains("systemctl start hafailover"), "{nobody:?}");

    let (desk, questions, _) = desk();
    tokio::spawn(answer(questions));
    let served = serve_on(bus.builder(), Arc::new(desk)).await.expect("the name is free");

    let troubled = seen(&bus.hafailoverctl(&["status"]).await);
    assert_eq!(troubled.0, Some(1), "{troubled:?}");
    assert!(troubled.1.contains("! beta is dead"), "{troubled:?}");
    let said = async |words: &[&str]| seen(&bus.hafailoverctl(words).await);
    let expected = |code, out: &str, err: &str| (Some(code), out.to_owned(), err.to_owned());
    assert_eq!(said(&["stop", "web"]).await, expected(0, "web is stopped", ""));
    let well = said(&["status", "--json"]).await;
    assert_eq!(well.0, Some(0), "{well:?}");
    let json: Status = serde_json::from_str(&well.1).expect("JSON");
    assert_eq!((json.schema, json.node.as_str()), (SCHEMA, "alpha"));
    assert_eq!(said(&["move", "web", "beta"]).await, expected(3, "", "refused: beta is banned"));
    assert_eq!(said(&["clear", "web"]).await, expected(1, "", "failed: in vain"));
    assert_eq!(said(&["reload"]).await, expected(3, "", "refused: 2 mistakes\nhere\nand there"));
    assert_eq!(said(&["record", "off"]).await, expected(0, "recorded: 9 lines", ""));
    assert_eq!(said(&["record", "on"]).await, expected(1, "", "failed: nothing is recorded: no room"));
    let unknown = "refused: there is no node \"gamma\" in the running configuration; there is: alpha, beta";
    assert_eq!(said(&["move", "web", "gamma"]).await, expected(3, "", unknown));
    drop(served);
}

#[test]
fn a_bus_that_is_dead_or_silent_is_named_with_its_remedy_and_nobody_waits_for_it_long() {
    let folder = std::env::temp_dir().join(format!("hafailover-no-bus-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let silent = folder.join("silent");
    // Whoever connects waits in its queue for ever.
    let _listener = std::os::unix::net::UnixListener::bind(&silent).expect("a socket");
    for (socket, why) in [(folder.join("dead"), "No such file"), (silent, "no answer within")] {
        let begun = std::time::Instant::now();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hafailoverctl"));
        command.arg("status").env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", socket.display()));
        let output = seen(&command.output().expect("hafailoverctl was built"));
        assert_eq!(output.0, Some(4), "{output:?}");
        assert!(output.2.contains(why) && output.2.contains("systemctl start dbus.socket dbus.service"), "{output:?}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "it waited {:?}", begun.elapsed());
    }
    std::fs::remove_dir_all(&folder).expect("its own folder");
}
