//! PURE. What changed from one status to the next, as the signals of the manager tell it.

use crate::cluster::Status;
use crate::cluster::status::LinkStatus;
use std::collections::BTreeMap;

/// One change. `before` and what came after it; a thing that is new or gone has no word for one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Of the node that tells it.
    LocalState {
        state: String,
        before: String,
    },
    GroupOwner {
        group: String,
        owner: String,
        before: String,
    },
    GroupState {
        group: String,
        state: String,
        before: String,
    },
    NodeState {
        node: String,
        state: String,
        before: String,
    },
    LinkState {
        link: String,
        state: String,
        before: String,
    },
    Alarm(String),
    AlarmOver(String),
}

/// `unusable`, `silent` where a node is not heard on it, or `usable`.
pub fn link_state(link: &LinkStatus) -> &'static str {
    match (link.usable, link.peers.iter().all(|peer| peer.heard)) {
        (false, _) => "unusable",
        (true, false) => "silent",
        (true, true) => "usable",
    }
}

/// In the order in which they are told.
pub fn news(before: &Status, after: &Status) -> Vec<News> {
    let mut news = Vec::new();
    if before.state != after.state {
        news.push(News::LocalState { state: after.state.clone(), before: before.state.clone() });
    }
    let nodes = |status: &Status| pairs(status.nodes.iter().map(|node| (&node.name, node.state.as_str())));
    let links = |status: &Status| pairs(status.links.iter().map(|link| (&link.name, link_state(link))));
    let owner = |status: &Status| {
        pairs(status.groups.iter().map(|group| (&group.name, group.owner.as_deref().unwrap_or_default())))
    };
    let states = |status: &Status| pairs(status.groups.iter().map(|group| (&group.name, group.state.as_str())));
    let changes = |read: &dyn Fn(&Status) -> BTreeMap<String, String>| changes(&read(before), &read(after));
    news.extend(changes(&nodes).into_iter().map(|(node, before, state)| News::NodeState { node, state, before }));
    news.extend(changes(&links).into_iter().map(|(link, before, state)| News::LinkState { link, state, before }));
    news.extend(changes(&owner).into_iter().map(|(group, before, owner)| News::GroupOwner { group, owner, before }));
    news.extend(changes(&states).into_iter().map(|(group, before, state)| News::GroupState { group, state, before }));
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).cloned().collect()
    };
    news.extend(only(&before.attention, &after.attention).into_iter().map(News::AlarmOver));
    news.extend(only(&after.attention, &before.attention).into_iter().map(News::Alarm));
    news
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a String, &'a str)>) -> BTreeMap<String, String> {
    pairs.map(|(name, state)| (name.clone(), state.to_owned())).collect()
}

/// Name, before and after, of all that differs.
fn changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<(String, String, String)> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let of = |map: &BTreeMap<String, String>, name| map.get(name).cloned().unwrap_or_default();
    let all = names.into_iter().map(|name| (name.clone(), of(before, name), of(after, name)));
    all.filter(|(_, before, after)| before != after).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two nodes, one link, one group on alpha, and nothing wrong. What a client sees of it is tested elsewhere.
    pub(crate) fn status() -> Status {
        serde_json::from_str(include_str!("../../tests/bus/status.json")).expect("it is one")
    }

    #[test]
    fn time_that_passes_is_no_news() {
        let (before, mut after) = (status(), status());
        after.nodes[1].heard_ms_ago = Some(80.0);
        after.links[0].peers[0].received += 10;
        after.links[0].counters.sent += 10;
        assert_eq!(news(&before, &after), []);
    }

    #[test]
    fn each_change_is_told_once_with_what_was_before() {
        let (before, mut after) = (status(), status());
        after.nodes[1].state = "lost".into();
        after.links[0].peers[0].heard = false;
        after.groups[0].owner = None;
        after.groups[0].state = "stopped".into();
        after.attention = vec!["node beta is not heard".into()];
        let word = str::to_owned;
        let expected = [
            News::NodeState { node: word("beta"), state: word("lost"), before: word("alive") },
            News::LinkState { link: word("hb-0"), state: word("silent"), before: word("usable") },
            News::GroupOwner { group: word("web"), owner: word(""), before: word("alpha") },
            News::GroupState { group: word("web"), state: word("stopped"), before: word("running") },
            News::Alarm(word("node beta is not heard")),
        ];
        assert_eq!(news(&before, &after), expected);
        assert_eq!(news(&after, &before).last(), Some(&News::AlarmOver(word("node beta is not heard"))));
    }

    #[test]
    fn what_is_new_or_gone_is_news() {
        let (before, mut after) = (status(), status());
        after.groups.clear();
        after.links[0].usable = false;
        after.state = "leaving".into();
        let told = format!("{:?}", news(&before, &after));
        for part in
            ["LocalState { state: \"leaving\"", "\"unusable\"", "owner: \"\"", "state: \"\", before: \"running\""]
        {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    }
}
