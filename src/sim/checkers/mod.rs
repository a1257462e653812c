//! What must hold in every world, one file each. They see what really is, and must not know how the heart decides.

pub mod moves;
pub mod one_owner;
pub mod operations;
pub mod rules;
pub mod settles;

use super::Nanos;

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    pub at: Nanos,
    pub checker: &'static str,
    pub what: String,
}
