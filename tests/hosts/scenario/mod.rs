//! The rows of the table: one function each, one file per theme. A row boots its own hosts, so that none inherits a state.

mod instruments;

use crate::pair::Lab;
use crate::sys::Result;

/// One row: its name, and the function that shows it and returns its figures.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub show: fn(&Lab) -> Result<String>,
    /// It needs our program on the hosts.
    pub program: bool,
}

macro_rules! rows {
    ($($theme:ident::$name:ident),* $(,)?) => {
        vec![$(Row { name: stringify!($name), show: $theme::$name, program: true }),*]
    };
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![Row { name: "row00_instruments", show: instruments::row00_instruments, program: false }];
    rows.extend::<Vec<Row>>(rows![]);
    rows
}
