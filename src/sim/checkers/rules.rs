//! What a single heart never does, whatever happens to it.

use super::Violation;
use crate::cluster::{Grant, Record};
use crate::sim::Nanos;
use crate::sim::scenario::MOST_NODES;
use crate::wire::Role;

const NAME: &str = "rules";

/// What a heart says of a group after a round, and what really is.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub record: Option<Record>,
    pub claims: Option<Grant>,
    pub role: Role,
    pub owns: bool,
    pub joined: bool,
}

#[derive(Debug)]
pub struct Rules {
    records: Vec<[Option<Record>; MOST_NODES]>,
}

impl Rules {
    pub fn new(groups: usize) -> Rules {
        Rules { records: vec![[None; MOST_NODES]; groups] }
    }

    /// With the power goes what was not on disk yet.
    pub fn power_lost(&mut self, host: usize) {
        for records in &mut self.records {
            records[host] = None;
        }
    }

    pub fn check(&mut self, at: Nanos, host: usize, group: usize, said: Said) -> Result<(), Violation> {
        let before = std::mem::replace(&mut self.records[group][host], said.record);
        let broken = match (before, said.record) {
            (Some(before), None) => Some(format!("forgot {before:?}")),
            (Some(before), Some(after)) if after.grant.epoch < before.grant.epoch => {
                Some(format!("epoch fell from {before:?} to {after:?}"))
            }
            (Some(before), Some(after)) if after.grant == before.grant => {
                let kept = before.released <= after.released && (before.heir.is_none() || before.heir == after.heir);
                (!kept).then(|| format!("took back a release: {before:?}, then {after:?}"))
            }
            _ => None,
        };
        let broken = broken.or_else(|| {
            let claim = said.claims?;
            let kept = said.record.is_some_and(|record| record.grant == claim && !record.released);
            (!kept).then(|| format!("runs under {claim:?}, its record is {:?}", said.record))
        });
        let broken =
            broken.or_else(|| (said.role == Role::Idle && said.owns).then(|| "says idle and is not".to_string()));
        let broken = broken.or_else(|| {
            (said.role == Role::Starting && !said.joined).then(|| "starts before it has joined".to_string())
        });
        match broken {
            Some(what) => Err(Violation { at, checker: NAME, what: format!("host {host} group {group}: {what}") }),
            None => Ok(()),
        }
    }
}
