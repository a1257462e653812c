//! Where calls of the bus become questions to the daemon, and its answers come back in time or not at all.
//! It must not know who calls.

use super::error::Error;
use crate::cluster::{Answer, Command, Status};
use crate::config::model::{Config, GroupConfig, GroupId, NodeId};
use crate::host::questions::Question;
use crate::host::recording::RecordWord;
use crate::journal::{JournalHandle, Level};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

/// A status is read off, no more.
const STATUS_PATIENCE: Duration = Duration::from_secs(3);
/// Anybody may ask for a status as often as they like; the beat thread, which makes it, is asked this often at most.
const STATUS_KEEPS: Duration = Duration::from_millis(50);
/// Reading files again: systemd has 15 s for its part, and what follows from them is told after 12 s at the latest.
const RELOAD_PATIENCE: Duration = Duration::from_secs(35);
/// A command ends with the groups' own timeouts; this is for everything around them.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Desk {
    /// What runs now.
    config: watch::Receiver<Arc<Config>>,
    questions: mpsc::Sender<Question>,
    /// Told by the daemon when something in its status may have changed.
    changed: Arc<Notify>,
    journal: Option<JournalHandle>,
    last: Mutex<Option<(Instant, Arc<Fresh>)>>,
    /// There is a newer status than the last one that was published.
    read: Notify,
}

/// A status as it was read, and as text once somebody wanted that: anybody may ask, as often as they like.
#[derive(Debug)]
struct Fresh {
    status: Arc<Status>,
    json: OnceLock<String>,
}

impl Desk {
    pub fn new(config: watch::Receiver<Arc<Config>>, questions: mpsc::Sender<Question>, changed: Arc<Notify>) -> Desk {
        Desk { config, questions, changed, journal: None, last: Mutex::default(), read: Notify::new() }
    }

    pub fn with_journal(self, journal: JournalHandle) -> Desk {
        Desk { journal: Some(journal), ..self }
    }

    pub(super) fn note(&self, level: Level, text: String) {
        if let Some(journal) = &self.journal {
            journal.note(level, text);
        }
    }

    /// For a caller: what is newer than the last one is published as well.
    pub(super) async fn status(&self) -> Result<Arc<Status>, Error> {
        Ok(self.fresh().await?.status.clone())
    }

    /// The same as JSON.
    pub(super) async fn json(&self) -> Result<String, Error> {
        let fresh = self.fresh().await?;
        if let Some(json) = fresh.json.get() {
            return Ok(json.clone());
        }
        let json = serde_json::to_string(&*fresh.status);
        let json = json.map_err(|error| Error::Failed(format!("the status cannot be written: {error}")))?;
        Ok(fresh.json.get_or_init(|| json).clone())
    }

    async fn fresh(&self) -> Result<Arc<Fresh>, Error> {
        self.read_status(|| self.read.notify_one()).await
    }

    /// For what is published: it must not bring itself about, or it would go on for ever.
    pub(super) async fn published(&self) -> Result<Arc<Status>, Error> {
        Ok(self.read_status(|| {}).await?.status.clone())
    }

    /// Who asks while an answer is under way gets that one.
    async fn read_status(&self, newer: impl FnOnce()) -> Result<Arc<Fresh>, Error> {
        let asked = async {
            let mut last = self.last.lock().await;
            if let Some((at, fresh)) = last.as_ref()
                && at.elapsed() < STATUS_KEEPS
            {
                return Ok(fresh.clone());
            }
            let status = Arc::new(self.ask(STATUS_PATIENCE, Question::Status).await?);
            let fresh = Arc::new(Fresh { status, json: OnceLock::new() });
            *last = Some((Instant::now(), fresh.clone()));
            newer();
            Ok(fresh)
        };
        timeout(STATUS_PATIENCE, asked).await.unwrap_or_else(|_| Err(late(STATUS_PATIENCE)))
    }

    /// Until the daemon says that its status changed, or somebody has read a newer one.
    pub(super) async fn news(&self) {
        tokio::select! {
            () = self.changed.notified() => self.forget().await,
            () = self.read.notified() => {}
        }
    }

    /// What was read before does not count any more.
    async fn forget(&self) {
        *self.last.lock().await = None;
    }

    pub(super) async fn command(&self, command: Command) -> Result<String, Error> {
        let longest =
            |time: fn(&GroupConfig) -> Duration| self.config.borrow().groups.iter().map(time).max().unwrap_or_default();
        let patience = COMMAND_PATIENCE + longest(|group| group.timeout_start) + longest(|group| group.timeout_stop);
        let answer = self.ask(patience, |answer| Question::Command(command, answer)).await;
        self.forget().await;
        answer.and_then(reply)
    }

    pub(super) async fn reload(&self) -> Result<String, Error> {
        let answer = self.ask(RELOAD_PATIENCE, Question::Reload).await;
        self.forget().await;
        answer.and_then(reply)
    }

    pub(super) async fn record(&self, word: RecordWord) -> Result<String, Error> {
        self.ask(RELOAD_PATIENCE, |answer| Question::Record(word, answer)).await.and_then(reply)
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
            Err(_) => Err(late(patience)),
        }
    }

    pub(super) fn group(&self, name: &str) -> Result<GroupId, Error> {
        let config = self.config.borrow();
        config.find_group(name).ok_or_else(|| {
            Error::UnknownGroup(unknown("group", name, config.live_groups().map(|id| &config.group(id).name)))
        })
    }

    pub(super) fn node(&self, name: &str) -> Result<NodeId, Error> {
        let config = self.config.borrow();
        config
            .find_node(name)
            .ok_or_else(|| Error::UnknownNode(unknown("node", name, config.nodes.iter().map(|node| &node.name))))
    }
}

fn late(patience: Duration) -> Error {
    let remedy = "see `journalctl -u hafailover` for what it is busy with";
    Error::NotAnswering(format!("no answer within {patience:?}; {remedy}"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::config;

    fn desk() -> (Desk, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(8);
        (Desk::new(watch::channel(Arc::new(config(&["alpha", "beta"]))).1, questions, Arc::default()), asked)
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let (desk, _asked) = desk();
        assert_eq!(desk.group("web").unwrap(), GroupId(1));
        let Err(Error::UnknownGroup(text)) = desk.group("wbe") else { panic!() };
        assert_eq!(text, "there is no group \"wbe\" in the running configuration; there is: db, web");
        let Err(Error::UnknownNode(text)) = desk.node("gamma") else { panic!() };
        assert!(text.ends_with("alpha, beta"), "{text}");
    }

    #[test]
    fn systemd_waits_longer_for_a_reload_than_its_answer_may_take() {
        let unit = include_str!("../../units/hafailover.service");
        let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStartSec=")?.strip_suffix('s'));
        let seconds: u64 = seconds.expect("a time in seconds").parse().expect("a number");
        assert!(Duration::from_secs(seconds) > RELOAD_PATIENCE);
    }

    #[tokio::test]
    async fn an_answer_comes_back_and_a_daemon_that_ends_is_said() {
        let (desk, mut asked) = desk();
        let answers = async {
            match asked.recv().await {
                Some(Question::Command(Command::Move { group: GroupId(1), to: NodeId(1) }, answer)) => {
                    answer.send(Answer::Refused("beta is banned".into())).unwrap();
                }
                other => panic!("{other:?}"),
            }
        };
        let (moved, ()) = tokio::join!(desk.command(Command::Move { group: GroupId(1), to: NodeId(1) }), answers);
        assert!(matches!(moved, Err(Error::Refused(text)) if text == "beta is banned"));
        drop(asked);
        assert!(matches!(desk.status().await, Err(Error::NotAnswering(_))));
    }

    #[tokio::test]
    async fn a_crowd_that_asks_for_the_status_costs_one_question_and_a_command_makes_the_next_one_new() {
        let (desk, mut asked) = desk();
        let desk = Arc::new(desk);
        let crowd: Vec<_> = (0..50)
            .map(|_| {
                let desk = desk.clone();
                tokio::spawn(async move { desk.status().await.map(|status| status.node.clone()) })
            })
            .collect();
        let status = |node: &str| Status { node: node.into(), ..crate::dbus::news::tests::status() };
        let answer = |question, node| match question {
            Some(Question::Status(answer)) => answer.send(status(node)).unwrap(),
            other => panic!("{other:?}"),
        };
        answer(asked.recv().await, "first");
        for one in crowd {
            assert_eq!(one.await.unwrap().unwrap(), "first");
        }
        assert!(asked.try_recv().is_err(), "one answer is enough for all");
        let cleared = async {
            match asked.recv().await {
                Some(Question::Command(_, answer)) => answer.send(Answer::Done("cleared".into())).unwrap(),
                other => panic!("{other:?}"),
            }
            answer(asked.recv().await, "second");
            asked
        };
        let after = async {
            desk.command(Command::Clear { group: GroupId(0) }).await.unwrap();
            desk.status().await.unwrap().node.clone()
        };
        let (after, mut asked) = tokio::join!(after, cleared);
        assert_eq!(after, "second");
        tokio::time::sleep(STATUS_KEEPS).await;
        let (later, ()) = tokio::join!(desk.status(), async { answer(asked.recv().await, "third") });
        assert_eq!(later.unwrap().node, "third");
    }

    #[tokio::test]
    async fn a_status_is_put_into_text_once_for_all_who_ask() {
        let (desk, mut asked) = desk();
        let answer = async {
            match asked.recv().await {
                Some(Question::Status(answer)) => answer.send(crate::dbus::news::tests::status()).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let (first, ()) = tokio::join!(desk.json(), answer);
        let first = first.unwrap();
        assert_eq!(serde_json::from_str::<Status>(&first).unwrap(), crate::dbus::news::tests::status());
        let kept = desk.fresh().await.unwrap();
        assert_eq!(kept.json.get(), Some(&first), "who asks next finds it");
        assert_eq!(desk.json().await.unwrap(), first);
    }

    #[tokio::test]
    async fn what_is_published_brings_nothing_about_and_what_a_caller_read_does() {
        let (desk, mut asked) = desk();
        let mut answer = async || match asked.recv().await {
            Some(Question::Status(answer)) => answer.send(crate::dbus::news::tests::status()).unwrap(),
            other => panic!("{other:?}"),
        };
        tokio::join!(desk.published(), answer()).0.unwrap();
        assert!(timeout(STATUS_KEEPS, desk.news()).await.is_err(), "it would go on for ever");
        tokio::join!(desk.status(), answer()).0.unwrap();
        assert!(timeout(STATUS_KEEPS, desk.news()).await.is_ok());
    }
}
