//! `org.hafailover1`, served: the manager's methods, properties and signals, and the name on the bus. A method asks for its
//! permission and puts one question; the comments here are part of the introspection.

use super::desk::Desk;
use super::error::Error;
use super::objects::Mirror;
use super::permission::{Permission, Permits};
use super::publish::Publisher;
use super::{NAME, PATH};
use crate::cluster::status::GroupStatus;
use crate::cluster::{Command, Which};
use crate::host::recording::RecordWord;
use crate::journal::{JournalHandle, Level};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use zbus::Connection;
use zbus::fdo::ObjectManager;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;

const RETRY: Duration = Duration::from_secs(2);

/// Serves as long as it is not aborted; takes the name again when the bus was away.
pub async fn keep_serving(desk: Desk, journal: JournalHandle) {
    let desk = Arc::new(desk.with_journal(journal.clone()));
    let mut complained = false;
    loop {
        match serve_on(zbus::connection::Builder::system(), desk.clone()).await {
            Ok(served) => {
                complained = false;
                served.connection.closed().await;
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

/// The service on one connection; ends when dropped.
#[derive(Debug)]
pub struct Served {
    pub connection: Connection,
    publisher: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

/// Serves on one connection, as long as that lives. Objects are there before the name is.
pub async fn serve_on(bus: zbus::connection::Builder<'_>, desk: Arc<Desk>) -> zbus::Result<Served> {
    let mirror = Mirror::nothing();
    let manager = Manager { desk: desk.clone(), permits: Permits::default(), mirror: mirror.clone() };
    let connection = bus.serve_at(PATH, ObjectManager).serve_at(PATH, manager).build().await?;
    let mut publisher = Publisher::new(connection.clone(), desk, mirror);
    publisher.publish().await?;
    connection.request_name(NAME).await?;
    let publisher = tokio::spawn(async move { publisher.run().await });
    Ok(Served { connection, publisher })
}

pub(super) struct Manager {
    desk: Arc<Desk>,
    permits: Permits,
    mirror: Mirror,
}

#[zbus::interface(name = "org.hafailover1.Manager")]
impl Manager {
    /// All there is to know, as JSON with a schema version. Anybody may ask.
    #[zbus(out_args("json"))]
    async fn status(&self) -> Result<String, Error> {
        self.desk.json().await
    }

    /// Why the group is where it is: one sentence, then the chain of reasons. Anybody may ask.
    #[zbus(out_args("text"))]
    async fn why(&self, group: &str) -> Result<String, Error> {
        self.desk.group(group)?;
        let status = self.desk.status().await?;
        let found = status.groups.iter().find(|status| status.name == group);
        found.map(explain).ok_or_else(|| Error::Failed(format!("nothing is known of group {group} yet")))
    }

    /// Hands the group over to a node, and answers when it runs there. May be said on any node. Takes manage-groups.
    #[zbus(name = "Move", out_args("text"))]
    async fn move_group(
        &self,
        group: &str,
        node: &str,
        #[zbus(header)] call: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String, Error> {
        let command = Command::Move { group: self.desk.group(group)?, to: self.desk.node(node)? };
        self.may(bus, &call, Permission::ManageGroups, &[("group", group), ("node", node)]).await?;
        self.desk.command(command).await
    }

    /// Stops the group everywhere until Start, and answers when it is stopped. Takes manage-groups.
    #[zbus(out_args("text"))]
    async fn stop(
        &self,
        group: &str,
        #[zbus(header)] call: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String, Error> {
        let command = Command::Stop { group: self.desk.group(group)? };
        self.may(bus, &call, Permission::ManageGroups, &[("group", group)]).await?;
        self.desk.command(command).await
    }

    /// Lets the group run again, and answers when it does. Takes manage-groups.
    #[zbus(out_args("text"))]
    async fn start(
        &self,
        group: &str,
        #[zbus(header)] call: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String, Error> {
        let command = Command::Start { group: self.desk.group(group)? };
        self.may(bus, &call, Permission::ManageGroups, &[("group", group)]).await?;
        self.desk.command(command).await
    }

    /// Forgets that the group failed on nodes, so that they may try it again. Takes manage-groups.
    #[zbus(out_args("text"))]
    async fn clear(
        &self,
        group: &str,
        #[zbus(header)] call: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String, Error> {
        let command = Command::Clear { group: self.desk.group(group)? };
        self.may(bus, &call, Permission::ManageGroups, &[("group", group)]).await?;
        self.desk.command(command).await
    }

    /// Gives the groups that run here to other nodes, once: all, local, foreign or failback. With `stay` this node owns nothing until Online. Takes manage-node.
    #[zbus(out_args("text"))]
    async fn standby(
        &self,
        groups: &str,
        stay: bool,
        #[zbus(header)] call: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String, Error> {
        let command = Command::Standby { which: which(groups)?, stay };
        let stay = stay.to_string();
        self.may(bus, &call, Permission::ManageNode, &[("groups", groups), ("stay", &stay)]).await?;
        self.desk.command(command).await
    }

    /// Takes groups from the nodes that run them, once: all, local, foreign or failback. Takes manage-node.
    #[zbus(out_args("text"))]
    async fn takeover(
        &self,
        groups: &str,
        #[zbus(header)] call: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String, Error> {
        let command = Command::Takeover { which: which(groups)? };
        self.may(bus, &call, Permission::ManageNode, &[("groups", groups)]).await?;
        self.desk.command(command).await
    }

    /// Ends a standby that stays, and lets Failback= hold again. Takes manage-node.
    #[zbus(out_args("text"))]
    async fn online(
        &self,
        #[zbus(header)] call: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String, Error> {
        let command = Command::Online;
        self.may(bus, &call, Permission::ManageNode, &[]).await?;
        self.desk.command(command).await
    }

    /// Leaves the whole cluster alone, whatever fails, or no longer. Takes manage-node.
    #[zbus(out_args("text"))]
    async fn set_maintenance(
        &self,
        on: bool,
        #[zbus(header)] call: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String, Error> {
        let command = Command::Maintenance { on };
        self.may(bus, &call, Permission::ManageNode, &[("on", &on.to_string())]).await?;
        self.desk.command(command).await
    }

    /// Reads the configuration again and tells what follows from it. Takes reload.
    #[zbus(out_args("text"))]
    async fn reload(
        &self,
        #[zbus(header)] call: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String, Error> {
        self.may(bus, &call, Permission::Reload, &[]).await?;
        self.desk.reload().await
    }

    /// Records what the daemon hears and decides, for a replay: `on`, `off`, or `status`, which only asks. `on` and `off` take manage-node.
    #[zbus(out_args("text"))]
    async fn record(
        &self,
        word: &str,
        #[zbus(header)] call: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String, Error> {
        let wanted = match word {
            "on" => RecordWord::On,
            "off" => RecordWord::Off,
            "status" => return self.desk.record(RecordWord::Status).await,
            other => return Err(Error::Refused(format!("record takes on, off or status, not \"{other}\""))),
        };
        self.may(bus, &call, Permission::ManageNode, &[("word", word)]).await?;
        self.desk.record(wanted).await
    }

    /// The cluster's name.
    #[zbus(property)]
    fn cluster(&self) -> String {
        self.mirror.status().cluster.clone()
    }

    /// The node that answers.
    #[zbus(property)]
    fn node(&self) -> String {
        self.mirror.status().node.clone()
    }

    /// Of the daemon that answers.
    #[zbus(property)]
    fn version(&self) -> String {
        self.mirror.status().version.clone()
    }

    /// The node that answers is joining, joined or leaving.
    #[zbus(property)]
    fn state(&self) -> String {
        self.mirror.status().state.clone()
    }

    /// An operator wants the whole cluster left alone, until SetMaintenance says otherwise.
    #[zbus(property)]
    fn maintenance(&self) -> bool {
        self.mirror.status().maintenance
    }

    /// Whole sentences on what needs attention; empty when all is well.
    #[zbus(property)]
    fn attention(&self) -> Vec<String> {
        self.mirror.status().attention.clone()
    }

    /// The node that answers joins or leaves.
    #[zbus(signal)]
    pub(super) async fn local_state_changed(to: &SignalEmitter<'_>, state: &str, before: &str) -> zbus::Result<()>;

    /// Another node owns the group, or none (an empty name), as far as the node that tells it knows.
    #[zbus(signal)]
    pub(super) async fn group_owner_changed(
        to: &SignalEmitter<'_>,
        group: &str,
        owner: &str,
        before: &str,
    ) -> zbus::Result<()>;

    /// The state of the group on the node that tells it.
    #[zbus(signal)]
    pub(super) async fn group_state_changed(
        to: &SignalEmitter<'_>,
        group: &str,
        state: &str,
        before: &str,
    ) -> zbus::Result<()>;

    /// What is heard of a node.
    #[zbus(signal)]
    pub(super) async fn node_state_changed(
        to: &SignalEmitter<'_>,
        node: &str,
        state: &str,
        before: &str,
    ) -> zbus::Result<()>;

    /// A link is usable, silent or unusable.
    #[zbus(signal)]
    pub(super) async fn link_state_changed(
        to: &SignalEmitter<'_>,
        link: &str,
        state: &str,
        before: &str,
    ) -> zbus::Result<()>;

    /// Something needs attention: a sentence that was not in Attention before.
    #[zbus(signal)]
    pub(super) async fn alarm(to: &SignalEmitter<'_>, text: &str) -> zbus::Result<()>;

    /// What an alarm told is over.
    #[zbus(signal)]
    pub(super) async fn alarm_over(to: &SignalEmitter<'_>, text: &str) -> zbus::Result<()>;
}

impl Manager {
    /// Every method that changes something says this first.
    async fn may(
        &self,
        bus: &Connection,
        call: &Header<'_>,
        permission: Permission,
        arguments: &[(&str, &str)],
    ) -> Result<(), Error> {
        self.permits.ask(&self.desk, bus, call, permission, arguments).await
    }
}

/// The sentence and, below it, the chain of reasons.
pub fn explain(group: &GroupStatus) -> String {
    let reasons = group.reasons.iter().map(|reason| format!("\n  - {reason}"));
    std::iter::once(format!("group {}: {}", group.name, group.why)).chain(reasons).collect()
}

fn which(word: &str) -> Result<Which, Error> {
    let known = || Which::WORDS.map(|(word, _)| word).join(", ");
    Which::from_word(word).ok_or_else(|| Error::Refused(format!("\"{word}\" is none of: {}", known())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_words_are_known_and_no_others() {
        for (word, known) in Which::WORDS {
            assert_eq!(which(word).unwrap(), known);
        }
        let Err(Error::Refused(text)) = which("mine") else { panic!() };
        assert_eq!(text, "\"mine\" is none of: all, local, foreign, failback");
    }

    #[test]
    fn why_tells_the_chain_of_reasons() {
        let mut group = super::super::news::tests::status().groups.remove(0);
        group.why = "blocked: 10.0.0.77 answers".into();
        group.reasons = vec!["beta is silent".into(), "10.0.0.77 answers from 02:00".into()];
        let text = "group web: blocked: 10.0.0.77 answers\n  - beta is silent\n  - 10.0.0.77 answers from 02:00";
        assert_eq!(explain(&group), text);
    }
}
