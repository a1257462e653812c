//! The story of a takeover, told while it happens.

use crate::sys::Result;

pub fn demo() -> Result {
    Ok(())
}
