//! `org.hafailover1.Manager`, served. It turns calls into questions and answers into replies or errors that say why.

use super::{NAME, PATH};
use crate::cluster::status::{GroupStatus, Status};
use crate::cluster::{Answer, Command};
use crate::config::model::{Config, GroupId, NodeId};
use crate::host::questions::Question;
use crate::journal::{JournalHandle, Level};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

/// A status is read off, no more.
const STATUS_PATIENCE: Duration = Duration::from_secs(3);
/// Reading files again.
const RELOAD_PATIENCE: Duration = Duration::from_secs(20);
/// A command ends with the groups' own timeouts; this is for everything around them.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(2);

struct Manager {
    /// What runs now.
    config: watch::Receiver<Arc<Config>>,
    questions: mpsc::Sender<Question>,
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.hafailover1.Error")]
enum Error {
    #[zbus(error)]
    Bus(zbus::Error),
    /// Not done, for a reason that stands in the text.
    Refused(String),
    /// Tried, in vain.
    Failed(String),
    UnknownGroup(String),
    UnknownNode(String),
    /// The daemon is there, but its heart does not answer.
    NotAnswering(String),
}

/// Serves as long as it is not aborted; takes the name again when the bus was away.
pub async fn keep_serving(
    config: watch::Receiver<Arc<Config>>,
    questions: mpsc::Sender<Question>,
    journal: JournalHandle,
) {
    let mut complained = false;
    loop {
        let bus = zbus::connection::Builder::system();
        match serve_on(bus, config.clone(), questions.clone()).await {
            Ok(connection) => {
                complained = false;
                connection.closed().await;
            }
            Err(error) if !complained => {
                complained = true;
                let remedy = "hafailoverctl cannot reach this daemon; is the bus running, and \
                     /usr/share/dbus-1/system.d/org.hafailover1.conf installed?";
                journal.note(Level::Warning, format!("{NAME} cannot be had on the system bus: {error}; {remedy}"));
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

/// Serves on one connection, as long as that lives.
pub async fn serve_on(
    bus: zbus::connection::Builder<'_>,
    config: watch::Receiver<Arc<Config>>,
    questions: mpsc::Sender<Question>,
) -> zbus::Result<zbus::Connection> {
    bus.serve_at(PATH, Manager { config, questions }).name(NAME).build().await
}

#[zbus::interface(name = "org.hafailover1.Manager")]
impl Manager {
    /// JSON, with a `schema` that counts.
    async fn status(&self) -> Result<String, Error> {
        let status = self.ask_status().await?;
        serde_json::to_string(&status).map_err(|error| Error::Failed(format!("the status cannot be written: {error}")))
    }

    async fn why(&self, group: &str) -> Result<String, Error> {
        self.group(group)?;
        let status = self.ask_status().await?;
        let found = status.groups.iter().find(|status| status.name == group);
        found.map(explain).ok_or_else(|| Error::Failed(format!("nothing is known of group {group} yet")))
    }

    #[zbus(name = "Move")]
    async fn move_group(&self, group: &str, node: &str) -> Result<String, Error> {
        let command = Command::Move { group: self.group(group)?, to: self.node(node)? };
        self.command(command).await
    }

    async fn stop(&self, group: &str) -> Result<String, Error> {
        self.command(Command::Stop { group: self.group(group)? }).await
    }

    async fn start(&self, group: &str) -> Result<String, Error> {
        self.command(Command::Start { group: self.group(group)? }).await
    }

    async fn clear(&self, group: &str) -> Result<String, Error> {
        self.command(Command::Clear { group: self.group(group)? }).await
    }

    async fn reload(&self) -> Result<String, Error> {
        self.ask(RELOAD_PATIENCE, Question::Reload).await.and_then(reply)
    }
}

impl Manager {
    async fn ask_status(&self) -> Result<Status, Error> {
        self.ask(STATUS_PATIENCE, Question::Status).await
    }

    async fn command(&self, command: Command) -> Result<String, Error> {
        let longest = |time: fn(&crate::config::model::GroupConfig) -> Duration| {
            self.config.borrow().groups.iter().map(time).max().unwrap_or_default()
        };
        let patience = COMMAND_PATIENCE + longest(|group| group.timeout_start) + longest(|group| group.timeout_stop);
        self.ask(patience, |answer| Question::Command(command, answer)).await.and_then(reply)
    }

    async fn ask<T>(
        &self,
        patience: Duration,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            self.questions.send(question(answer)).await.ok()?;
            answered.await.ok()
        };
        match timeout(patience, exchange).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Error::NotAnswering("the daemon is about to end; try again in a moment".into())),
            Err(_) => Err(Error::NotAnswering(format!(
                "no answer within {patience:?}; see `journalctl -u hafailover` for what it is busy with"
            ))),
        }
    }

    fn group(&self, name: &str) -> Result<GroupId, Error> {
        let config = self.config.borrow();
        config.find_group(name).ok_or_else(|| {
            Error::UnknownGroup(unknown("group", name, config.live_groups().map(|id| &config.group(id).name)))
        })
    }

    fn node(&self, name: &str) -> Result<NodeId, Error> {
        let config = self.config.borrow();
        config
            .find_node(name)
            .ok_or_else(|| Error::UnknownNode(unknown("node", name, config.nodes.iter().map(|node| &node.name))))
    }
}

fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("there is no {kind} \"{name}\" in the running configuration; there is: {known}")
}

fn reply(answer: Answer) -> Result<String, Error> {
    match answer {
        Answer::Done(text) => Ok(text),
        Answer::Failed(text) => Err(Error::Failed(text)),
        Answer::Refused(text) => Err(Error::Refused(text)),
    }
}

/// The sentence and, below it, the chain of reasons.
pub fn explain(group: &GroupStatus) -> String {
    let reasons = group.reasons.iter().map(|reason| format!("\n  - {reason}"));
    std::iter::once(format!("group {}: {}", group.name, group.why)).chain(reasons).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::config;

    fn manager() -> (Manager, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(1);
        let (_, config) = watch::channel(Arc::new(config(&["alpha", "beta"])));
        (Manager { config, questions }, asked)
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let (manager, _asked) = manager();
        assert_eq!(manager.group("web").unwrap(), GroupId(1));
        let Err(Error::UnknownGroup(text)) = manager.group("wbe") else { panic!() };
        assert_eq!(text, "there is no group \"wbe\" in the running configuration; there is: db, web");
        let Err(Error::UnknownNode(text)) = manager.node("gamma") else { panic!() };
        assert!(text.ends_with("alpha, beta"), "{text}");
    }

    #[tokio::test]
    async fn an_answer_comes_back_and_a_daemon_that_ends_is_said() {
        let (manager, mut asked) = manager();
        let answers = async {
            match asked.recv().await {
                Some(Question::Command(Command::Move { group: GroupId(1), to: NodeId(1) }, answer)) => {
                    answer.send(Answer::Refused("beta is banned".into())).unwrap();
                }
                other => panic!("{other:?}"),
            }
        };
        let (moved, ()) = tokio::join!(manager.move_group("web", "beta"), answers);
        assert!(matches!(moved, Err(Error::Refused(text)) if text == "beta is banned"));
        drop(asked);
        assert!(matches!(manager.status().await, Err(Error::NotAnswering(_))));
    }

    #[test]
    fn why_tells_the_chain_of_reasons() {
        let group = GroupStatus {
            name: "web".into(),
            owner: None,
            epoch: 3,
            state: "blocked".into(),
            why: "blocked: 10.0.0.77 answers".into(),
            reasons: vec!["beta is silent".into(), "10.0.0.77 answers from 02:00".into()],
            addresses: vec![],
            members: vec![],
            banned: None,
            stopped_by_operator: false,
        };
        let text = "group web: blocked: 10.0.0.77 answers\n  - beta is silent\n  - 10.0.0.77 answers from 02:00";
        assert_eq!(explain(&group), text);
    }
}
