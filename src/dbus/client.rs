//! `org.hafailover1` as a client sees it. It must not know how anything is printed.

use super::{ERROR_PREFIX, NAME};
use std::time::Duration;

#[zbus::proxy(
    interface = "org.hafailover1.Manager",
    default_service = "org.hafailover1",
    default_path = "/org/hafailover1"
)]
pub trait Manager {
    fn status(&self) -> zbus::Result<String>;
    fn why(&self, group: &str) -> zbus::Result<String>;
    #[zbus(name = "Move", allow_interactive_auth)]
    fn move_group(&self, group: &str, node: &str) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn stop(&self, group: &str) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn start(&self, group: &str) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn clear(&self, group: &str) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn standby(&self, groups: &str, stay: bool) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn takeover(&self, groups: &str) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn online(&self) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn set_maintenance(&self, on: bool) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn reload(&self) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn record(&self, word: &str) -> zbus::Result<String>;
}

/// Why a call did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// With a reason: nothing was tried.
    Refused(String),
    /// It was tried, or the call itself failed.
    Failed(String),
    NoDaemon(String),
}

impl From<zbus::Error> for CallError {
    fn from(error: zbus::Error) -> CallError {
        let (name, text) = match &error {
            zbus::Error::MethodError(name, text, _) => (name.to_string(), text.clone().unwrap_or_default()),
            zbus::Error::FDO(inner) => (
                zbus::DBusError::name(inner).to_string(),
                zbus::DBusError::description(inner).unwrap_or_default().to_owned(),
            ),
            other => return no_bus(&other.to_string()),
        };
        sort(&name, text)
    }
}

/// A bus that is stopped rather than dead accepts, and never says a word.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// The system bus, or why it cannot be used: nobody waits for it long.
pub async fn connect() -> Result<zbus::Connection, CallError> {
    match tokio::time::timeout(CONNECT_PATIENCE, zbus::Connection::system()).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(no_bus(&format!("no answer within {CONNECT_PATIENCE:?}"))),
    }
}

fn no_bus(why: &str) -> CallError {
    CallError::NoDaemon(format!(
        "the system bus cannot be used: {why}; bring it back with `systemctl start dbus.socket dbus.service`. The daemon goes on without it: \
         see `systemctl status hafailover` and `journalctl -u hafailover`"
    ))
}

fn sort(name: &str, text: String) -> CallError {
    let remedy = "start it with `systemctl start hafailover`";
    if let Some(own) = name.strip_prefix(ERROR_PREFIX) {
        return match own.trim_start_matches('.') {
            "Refused" | "NotAuthorized" | "UnknownGroup" | "UnknownNode" => CallError::Refused(text),
            _ => CallError::Failed(text),
        };
    }
    match name.rsplit('.').next().unwrap_or_default() {
        "ServiceUnknown" | "NameHasNoOwner" => {
            CallError::NoDaemon(format!("hafailoverd does not run (nobody has the name {NAME}): {remedy}"))
        }
        "AccessDenied" => CallError::Refused(format!("the bus does not let this pass: {text}")),
        "NoReply" | "Disconnected" => CallError::Failed("hafailoverd ended before it answered".into()),
        _ => CallError::Failed(format!("{name}: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let sorted = |name: &str| sort(name, "why".into());
        assert_eq!(sorted("org.hafailover1.Error.Refused"), CallError::Refused("why".into()));
        assert_eq!(sorted("org.hafailover1.Error.NotAuthorized"), CallError::Refused("why".into()));
        assert_eq!(sorted("org.hafailover1.Error.UnknownGroup"), CallError::Refused("why".into()));
        assert_eq!(sorted("org.hafailover1.Error.Failed"), CallError::Failed("why".into()));
        assert_eq!(sorted("org.hafailover1.Error.NotAnswering"), CallError::Failed("why".into()));
        assert!(matches!(sorted("org.freedesktop.DBus.Error.ServiceUnknown"), CallError::NoDaemon(_)));
        assert!(matches!(sorted("org.freedesktop.DBus.Error.AccessDenied"), CallError::Refused(_)));
        let dead = CallError::from(zbus::Error::Failure("Connection refused".into()));
        let CallError::NoDaemon(text) = dead else { panic!("{dead:?}") };
        assert!(text.contains("Connection refused") && text.contains("systemctl start dbus.socket"), "{text}");
    }
}
