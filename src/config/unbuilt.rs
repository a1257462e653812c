//! What has its name and meaning already and is not built yet: refused with that reason, never ignored.
//! One place, so that building a part means deleting its lines here.

use super::problem::{Findings, did_you_mean};
use super::tree::{Found, Reader, Section};

const TABLES: [(&str, &str); 5] = [
    ("ping", "ping targets"),
    ("quorum", "quorum"),
    ("watchdog", "the watchdog"),
    ("fence", "fencing"),
    ("alerts", "alerts"),
];

pub(super) const PROOFS: [&str; 4] = ["silence", "quorum", "fencing", "operator"];

/// Keys of `[X-HAFailover]`, and what works instead.
const GROUP_KEYS: [(&str, &str); 10] = [
    ("CheckHTTP", HEALTH),
    ("CheckTCP", HEALTH),
    ("CheckCommand", HEALTH),
    ("CheckExpect", HEALTH),
    ("CheckIntervalSec", HEALTH),
    ("CheckTimeoutSec", HEALTH),
    ("CheckFailures", HEALTH),
    ("FailureLimitBurst", RESTART),
    ("FailureLimitIntervalSec", RESTART),
    ("RequirePing", "remove it; RequireInterface= works"),
];
const HEALTH: &str = "remove it; the members' own Restart= and WatchdogSec= work";
const RESTART: &str = "remove it; the members' own Restart= works, and its last failure moves the group";

/// Refuses the tables that are there; returns the names of all of them, which are no unknown keys.
pub(super) fn refuse_tables(reader: &mut Reader<'_>, top: Section<'_>) -> Vec<&'static str> {
    for (key, words) in TABLES {
        if let Some(at) = reader.key_at(top, key) {
            let remedy = "remove this table; proof = \"silence\" needs none of it";
            reader.findings.problem(at, format!("not built yet in this version: {words} ([{key}])"), remedy);
        }
    }
    TABLES.map(|(key, _)| key).to_vec()
}

/// Whether witnesses are named.
pub(super) fn refuse_witnesses(reader: &mut Reader<'_>, section: Section<'_>) -> bool {
    let Some(at) = reader.key_at(section, "witnesses") else { return false };
    let remedy = "remove it; proof = \"silence\" works without";
    reader.findings.problem(at, "not built yet in this version: witnesses", remedy);
    reader.strings(section, "witnesses").is_some_and(|names| !names.is_empty())
}

pub(super) fn check_proof(findings: &mut Findings<'_>, proof: &Found<String>, nodes: usize, witnesses: bool) {
    let name = proof.value.as_str();
    if name == "silence" {
        return;
    }
    if !PROOFS.contains(&name) {
        findings.problem(proof.at, format!("unknown proof \"{name}\""), did_you_mean(name, &PROOFS));
        return;
    }
    let mut what = format!("not built yet in this version: proof = \"{name}\"");
    if name == "quorum" && nodes == 2 && !witnesses {
        what.push_str(
            "; besides, two nodes have no majority: they need a witness, fencing, an operator, or silence spelled out",
        );
    }
    findings.problem(proof.at, what, "set proof = \"silence\", if two owners for a moment can damage nothing");
}

pub(super) const LINK_KINDS: [&str; 3] = ["ucast", "mcast", "bcast"];

/// Refuses every kind of link that is none of [`LINK_KINDS`].
pub(super) fn refuse_link_kind(findings: &mut Findings<'_>, kind: &Found<String>) {
    if kind.value == "serial" {
        let what = "not built yet in this version: links of kind \"serial\"";
        findings.problem(kind.at, what, "use kind = \"ucast\", \"mcast\" or \"bcast\" over a network interface");
    } else {
        let remedy = did_you_mean(&kind.value, &LINK_KINDS);
        findings.problem(kind.at, format!("unknown kind of link \"{}\"", kind.value), remedy);
    }
}

/// For a key of a group that a later version will know and this one refuses: what works instead.
pub(super) fn group_key(key: &str) -> Option<&'static str> {
    GROUP_KEYS.iter().find(|(name, _)| *name == key).map(|(_, remedy)| *remedy)
}
