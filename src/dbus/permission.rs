//! Who may do what: root everything, others what polkit allows them. In doubt nobody.
//! It must not know what is done with a permission.

use super::desk::Desk;
use super::error::Error;
use crate::journal::Level;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::{Flags, Header};
use zbus::names::{BusName, UniqueName};
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

/// The bus itself answers at once.
const BUS_PATIENCE: Duration = Duration::from_secs(5);
/// polkit alone answers at once too, unless the administrator's rules do not.
const POLKIT_PATIENCE: Duration = Duration::from_secs(30);
/// Somebody looks for a password.
const PERSON_PATIENCE: Duration = Duration::from_secs(300);
/// One user's questions that may wait for polkit at the same time.
const WAITING_MAX: u32 = 8;

/// One polkit action each; their texts and defaults are in `packaging/org.hafailover1.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Move, stop, start and clear groups.
    ManageGroups,
    /// Standby, takeover, online, recording: what concerns a node as a whole; and maintenance of the whole cluster.
    ManageNode,
    Reload,
}

impl Permission {
    pub const ALL: [Permission; 3] = [Permission::ManageGroups, Permission::ManageNode, Permission::Reload];

    /// Its name in polkit.
    pub fn action(self) -> &'static str {
        match self {
            Permission::ManageGroups => "org.hafailover1.manage-groups",
            Permission::ManageNode => "org.hafailover1.manage-node",
            Permission::Reload => "org.hafailover1.reload",
        }
    }
}

/// Asks for permissions, and counts who waits for one.
#[derive(Debug, Default)]
pub(super) struct Permits {
    waiting: Mutex<BTreeMap<u32, u32>>,
    asked: AtomicU64,
}

impl Permits {
    /// Ends well if the sender of this call may do this. Of what it was called with polkit gets the details that its rules may
    /// look at; the journal gets all.
    pub(super) async fn ask(
        &self,
        desk: &Desk,
        connection: &Connection,
        call: &Header<'_>,
        permission: Permission,
        arguments: &[(&str, &str)],
    ) -> Result<(), Error> {
        // The bus writes the sender into each message; one without was not brought by a bus.
        let Some(sender) = call.sender() else {
            return Err(Error::NotAuthorized("a call without a sender is nobody's".into()));
        };
        let uid = user(connection, sender).await?;
        if uid == 0 {
            return Ok(());
        }
        let waits = self.wait(uid)?;
        let details = details(arguments);
        let ask = Ask { permission, uid, details: &details, interactive: interactive(call) };
        let answer = ask.polkit(connection, call, self.asked.fetch_add(1, Ordering::Relaxed)).await;
        drop(waits);
        answer?;
        // A person may have taken minutes, and who asked for this may have given up meanwhile.
        user(connection, sender).await?;
        let what = call.member().map(ToString::to_string).unwrap_or_default();
        let what = said(&what, arguments);
        desk.note(Level::Notice, format!("user {uid} says {what} ({}, {sender})", permission.action()));
        Ok(())
    }

    fn wait(&self, uid: u32) -> Result<Waits<'_>, Error> {
        let mut waiting = self.waiting();
        let count = waiting.entry(uid).or_default();
        if *count >= WAITING_MAX {
            let text = format!("{count} calls of user {uid} wait for polkit already: answer its questions first");
            return Err(Error::NotAuthorized(text));
        }
        *count += 1;
        Ok(Waits { permits: self, uid })
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u32, u32>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one call for as long as it waits.
struct Waits<'permits> {
    permits: &'permits Permits,
    uid: u32,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut waiting = self.permits.waiting();
        if let Some(count) = waiting.get_mut(&self.uid) {
            *count -= 1;
        }
        waiting.retain(|_, count| *count > 0);
    }
}

/// Which group and node it is about.
fn details<'a>(arguments: &[(&'a str, &'a str)]) -> HashMap<&'a str, &'a str> {
    arguments.iter().copied().filter(|(key, _)| matches!(*key, "group" | "node")).collect()
}

/// A call as people read it: its method, and with what it was called.
fn said(method: &str, arguments: &[(&str, &str)]) -> String {
    let arguments: String = arguments.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    format!("{method}{arguments}")
}

fn interactive(call: &Header<'_>) -> bool {
    call.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH)
}

/// As the bus knows it. A caller that is gone has none.
async fn user(connection: &Connection, sender: &UniqueName<'_>) -> Result<u32, Error> {
    let asked = async {
        let bus = DBusProxy::new(connection).await.map_err(|error| error.to_string())?;
        let name = BusName::Unique(sender.to_owned());
        bus.get_connection_unix_user(name).await.map_err(|error| error.to_string())
    };
    let answer = timeout(BUS_PATIENCE, asked).await.unwrap_or_else(|_| Err("the bus does not answer".into()));
    answer.map_err(|error| Error::NotAuthorized(format!("whose call this is cannot be said: {error}")))
}

/// One question to polkit.
struct Ask<'a> {
    permission: Permission,
    uid: u32,
    details: &'a HashMap<&'a str, &'a str>,
    interactive: bool,
}

impl Ask<'_> {
    async fn polkit(&self, connection: &Connection, call: &Header<'_>, number: u64) -> Result<(), Error> {
        let unasked = |error: &dyn std::fmt::Display| {
            let remedy = "only root may do this while polkit does not answer; is polkitd installed?";
            Error::NotAuthorized(format!("polkit could not be asked about user {}: {error}; {remedy}", self.uid))
        };
        let subject = Subject::new_for_message_header(call).map_err(|error| unasked(&error))?;
        let polkit = AuthorityProxy::new(connection).await.map_err(|error| unasked(&error))?;
        let (flags, patience) = match self.interactive {
            true => (CheckAuthorizationFlags::ALLOW_USER_INTERACTION, PERSON_PATIENCE),
            false => (CheckAuthorizationFlags::empty(), POLKIT_PATIENCE),
        };
        let id = number.to_string();
        let check = polkit.check_authorization(&subject, self.permission.action(), self.details, flags, &id);
        let Ok(answer) = timeout(patience, check).await else {
            // The question must not stay on somebody's screen when its answer counts no more. If it does, no harm is done.
            drop(timeout(BUS_PATIENCE, polkit.cancel_check_authorization(&id)).await);
            return Err(unasked(&format!("no answer within {patience:?}")));
        };
        let answer = answer.map_err(|error| unasked(&error))?;
        if answer.is_authorized { Ok(()) } else { Err(self.refusal(answer.is_challenge)) }
    }

    fn refusal(&self, challenge: bool) -> Error {
        let action = self.permission.action();
        let why = match (challenge, self.interactive) {
            (true, true) => "wants a password, and there is nobody on this terminal or screen to ask for it",
            (true, false) => "wants a password, which this call did not allow it to ask for",
            (false, _) => "does not allow it",
        };
        Error::NotAuthorized(format!(
            "user {} may not do this: polkit {why} ({action}); say it as root, or see org.hafailover1(5)",
            self.uid
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_who_lets_questions_wait_hinders_nobody_else() {
        let permits = Permits::default();
        let mut waits: Vec<_> = (0..WAITING_MAX).map(|_| permits.wait(1000).unwrap()).collect();
        let Err(Error::NotAuthorized(text)) = permits.wait(1000) else { panic!() };
        assert!(text.contains("8 calls of user 1000"), "{text}");
        assert!(permits.wait(1001).is_ok());
        waits.pop();
        assert!(permits.wait(1000).is_ok());
        drop(waits);
        assert!(permits.waiting().is_empty());
    }

    #[test]
    fn the_journal_tells_each_argument_and_polkit_gets_group_and_node() {
        let moved = [("group", "web"), ("node", "beta")];
        assert_eq!(said("Move", &moved), "Move group=web node=beta");
        assert_eq!(details(&moved), HashMap::from(moved));
        let stays = [("groups", "all"), ("stay", "true")];
        assert_eq!(said("Standby", &stays), "Standby groups=all stay=true");
        assert_eq!(details(&stays), HashMap::new());
        assert_eq!(said("Online", &[]), "Online");
    }

    #[test]
    fn every_permission_is_an_action_of_the_policy_file_and_every_action_a_permission() {
        let policy = include_str!("../../packaging/org.hafailover1.policy");
        let mut actions: Vec<&str> =
            policy.split("<action id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        actions.sort_unstable();
        let mut known = Permission::ALL.map(Permission::action);
        known.sort_unstable();
        assert_eq!(actions, known);
    }
}
