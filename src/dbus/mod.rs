//! `org.hafailover1` on the system bus: the server in the daemon, the client in `hafailoverctl`.
//! Everybody may read; who may change something is asked of polkit, unless it is root.

pub mod client;
mod desk;
mod error;
pub(crate) mod news;
mod objects;
pub mod path;
pub mod permission;
mod publish;
mod server;

pub use desk::Desk;
pub use server::{Served, explain, keep_serving, serve_on};

pub const NAME: &str = "org.hafailover1";
pub const PATH: &str = "/org/hafailover1";
/// Of every error this service answers with; the last word tells which.
pub const ERROR_PREFIX: &str = "org.hafailover1.Error";
