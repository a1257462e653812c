//! The errors of `org.hafailover1`, each under a name of its own that programs can tell apart.

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.hafailover1.Error")]
pub(super) enum Error {
    #[zbus(error)]
    Bus(zbus::Error),
    /// Not done, for a reason that stands in the text.
    Refused(String),
    /// Tried, in vain.
    Failed(String),
    UnknownGroup(String),
    UnknownNode(String),
    /// The caller may not do this, or nobody could say that they may.
    NotAuthorized(String),
    /// The daemon is there, but its heart does not answer.
    NotAnswering(String),
}
