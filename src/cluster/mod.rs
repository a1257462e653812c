//! PURE. What this node knows and decides. No clock, no socket, no file, no randomness, no tokio.
//!
//! One round: [`Cluster::begin`] (the time, own lateness) → [`Cluster::fold`] for every event that waits →
//! [`Cluster::decide`] → actions; [`Cluster::next_deadline`] says when to come again at the latest.

pub mod action;
pub mod event;
pub mod grant;
pub mod report;
pub mod status;
pub mod takeover;
pub mod time;

pub use action::{Action, Answer, OpId, RequestId};
pub use event::{Actual, Command, Event, Held, HeldPhase, Outcome, Saved};
pub use grant::{BootId, Epoch, Grant, Incarnation, Order, Record, SavedGroup};
pub use report::Change;
pub use status::Status;
pub use time::Time;
