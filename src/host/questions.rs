//! Questions from the bus on their way through the beat thread and back. Each ends: by an answer, or with whoever asked.

use super::orders::{Beat, ToBeat};
use super::recording::RecordWord;
use crate::cluster::{Answer, Command, Event, RequestId, Status};
use crate::config::model::GroupConfig;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// What the bus may ask of this process.
#[derive(Debug)]
pub enum Question {
    Status(oneshot::Sender<Status>),
    Command(Command, oneshot::Sender<Answer>),
    Reload(Asker),
    Record(RecordWord, Asker),
}

/// Whoever asked for something that is answered in words.
pub type Asker = oneshot::Sender<Answer>;

#[derive(Debug, Default)]
pub(super) struct Questions {
    last: u64,
    status: BTreeMap<RequestId, oneshot::Sender<Status>>,
    /// Who wait for the same answer stand together.
    commands: BTreeMap<RequestId, Vec<Asker>>,
    /// What is to be said beside the heart's answer.
    said: BTreeMap<RequestId, Vec<String>>,
}

impl Questions {
    pub(super) fn ask_status(&mut self, beat: &Beat, answer: oneshot::Sender<Status>) {
        let request = self.next();
        self.status.insert(request, answer);
        beat.send(ToBeat::Status { request });
    }

    pub(super) fn ask_command(&mut self, beat: &Beat, command: Command, answer: oneshot::Sender<Answer>) {
        let request = self.next();
        self.commands.insert(request, vec![answer]);
        beat.send(ToBeat::Event(Event::Command { request, command }));
    }

    /// The heart's answer comes behind what was `said` already. Nobody may have asked: then it answers nobody.
    pub(super) fn ask_files(&mut self, beat: &Beat, groups: Vec<GroupConfig>, said: Vec<String>, askers: Vec<Asker>) {
        let request = (!askers.is_empty()).then(|| self.next());
        if let Some(request) = request {
            self.commands.insert(request, askers);
            self.said.insert(request, said);
        }
        beat.send(ToBeat::Event(Event::Files { groups, request }));
    }

    /// Nobody waits any more where sending fails: they gave up.
    pub(super) fn status(&mut self, request: RequestId, status: Status) {
        if let Some(answer) = self.status.remove(&request) {
            let _ = answer.send(status);
        }
    }

    pub(super) fn reply(&mut self, request: RequestId, reply: Answer) {
        let reply = match (self.said.remove(&request), reply) {
            (Some(said), Answer::Done(text)) => Answer::Done(joined(said, text)),
            (_, reply) => reply,
        };
        for asker in self.commands.remove(&request).into_iter().flatten() {
            let _ = asker.send(reply.clone());
        }
    }

    /// Drops those whose asker gave up, so that a beat thread that never answers costs no memory.
    pub(super) fn forget_abandoned(&mut self) {
        self.status.retain(|_, answer| !answer.is_closed());
        self.commands.retain(|_, askers| askers.iter().any(|asker| !asker.is_closed()));
        self.said.retain(|request, _| self.commands.contains_key(request));
    }

    fn next(&mut self) -> RequestId {
        self.last += 1;
        RequestId(self.last)
    }
}

fn joined(mut said: Vec<String>, text: String) -> String {
    said.extend(Some(text).filter(|text| !text.is_empty()));
    if said.is_empty() { "nothing has changed".into() } else { said.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::GroupId;
    use crate::host::orders::beat_channel;

    #[test]
    fn each_answer_finds_its_question() {
        let (beat, inbox) = beat_channel().unwrap();
        let mut questions = Questions::default();
        let (one, mut first) = oneshot::channel();
        let (two, mut second) = oneshot::channel();
        questions.ask_command(&beat, Command::Stop { group: GroupId(0) }, one);
        questions.ask_command(&beat, Command::Stop { group: GroupId(1) }, two);
        let asked: Vec<(RequestId, Command)> = inbox
            .drain()
            .map(|message| match message {
                ToBeat::Event(Event::Command { request, command }) => (request, command),
                other => panic!("{other:?}"),
            })
            .collect();
        questions.reply(asked[1].0, Answer::Done("second".into()));
        questions.reply(asked[0].0, Answer::Refused("first".into()));
        assert_eq!(first.try_recv(), Ok(Answer::Refused("first".into())));
        assert_eq!(second.try_recv(), Ok(Answer::Done("second".into())));
    }

    #[test]
    fn who_wait_for_the_same_files_get_the_same_answer() {
        let (beat, inbox) = beat_channel().unwrap();
        let mut questions = Questions::default();
        let (one, mut first) = oneshot::channel();
        let (two, mut second) = oneshot::channel();
        questions.ask_files(&beat, Vec::new(), vec!["keys".into()], vec![one, two]);
        questions.ask_files(&beat, Vec::new(), Vec::new(), Vec::new());
        let asked: Vec<ToBeat> = inbox.drain().collect();
        let [
            ToBeat::Event(Event::Files { request: Some(request), .. }),
            ToBeat::Event(Event::Files { request: None, .. }),
        ] = &asked[..]
        else {
            panic!("{asked:?}")
        };
        questions.reply(*request, Answer::Done("groups".into()));
        let both = Ok(Answer::Done("keys\ngroups".into()));
        assert_eq!((first.try_recv(), second.try_recv()), (both.clone(), both));
    }

    #[test]
    fn a_question_whose_asker_gave_up_is_forgotten() {
        let (beat, _inbox) = beat_channel().unwrap();
        let mut questions = Questions::default();
        let (answer, asker) = oneshot::channel();
        questions.ask_status(&beat, answer);
        questions.forget_abandoned();
        assert_eq!(questions.status.len(), 1);
        drop(asker);
        questions.forget_abandoned();
        assert!(questions.status.is_empty());
    }
}
