//! `org.hafailover1` on the system bus: the server in the daemon, the client in `hafailoverctl`.
//! The bus policy lets only root speak to it.

pub mod client;
mod server;

pub use server::{explain, keep_serving, serve_on};

pub const NAME: &str = "org.hafailover1";
pub const PATH: &str = "/org/hafailover1";
/// Of every error this service answers with; the last word tells which.
pub const ERROR_PREFIX: &str = "org.hafailover1.Error";
