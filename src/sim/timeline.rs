//! What happened, one column per node, for people who look for the reason of a violation. It must not know what matters.

use super::{MS, Nanos};
use std::fmt::Write;

#[derive(Clone, Debug, Default)]
pub struct Timeline {
    on: bool,
    lines: Vec<(Nanos, Option<usize>, String)>,
}

/// What all columns share; a column is never narrower than `NARROWEST`.
const WIDTH: usize = 180;
const NARROWEST: usize = 44;

impl Timeline {
    pub fn new(on: bool) -> Timeline {
        Timeline { on, lines: Vec::new() }
    }

    pub fn is_on(&self) -> bool {
        self.on
    }

    /// The text is only made when somebody will read it.
    pub fn note(&mut self, at: Nanos, host: Option<usize>, text: impl FnOnce() -> String) {
        if self.on {
            self.lines.push((at, host, text()));
        }
    }

    pub fn render(&self, nodes: usize) -> String {
        let width = (WIDTH / nodes).max(NARROWEST);
        let mut out = String::new();
        for (at, host, text) in &self.lines {
            let millis = *at as f64 / MS as f64;
            let indent = host.unwrap_or(0) * width;
            let mark = if host.is_none() { "== " } else { "" };
            let room = if host.is_none() { width * nodes } else { width };
            let mut rest = format!("{mark}{text}");
            let mut stamp = format!("{millis:12.3}");
            while !rest.is_empty() {
                let cut = rest.char_indices().nth(room - 2).map_or(rest.len(), |(index, _)| index);
                let tail = rest.split_off(cut);
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{stamp:12}  {:indent$}{rest}", "");
                stamp.clear();
                rest = tail;
            }
        }
        out
    }
}
