//! Objects, their properties, and what is signalled when they change: that, once, and nothing else.

use crate::served::{Bus, Daemon, group};
use futures_core::Stream;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use zbus::fdo::ObjectManagerProxy;
use zbus::names::OwnedInterfaceName;
use zbus::{MatchRule, Message, MessageStream, OwnedVariant, Variant};

const LONG: Duration = Duration::from_secs(10);
/// Longer than a change takes to be told.
const QUIET: Duration = Duration::from_millis(500);

async fn signals(bus: &Bus) -> MessageStream {
    let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).sender("org.hafailover1").build();
    let rule = rule.expect("this is a name");
    MessageStream::for_match_rule(rule, &bus.connect().await, None).await.expect("everybody may listen")
}

async fn next(stream: &mut MessageStream) -> Message {
    let message = timeout(LONG, poll_fn(|context| Pin::new(&mut *stream).poll_next(context))).await;
    message.expect("something is signalled").expect("the bus lives").expect("it can be read")
}

async fn quiet(stream: &mut MessageStream) {
    let message = timeout(QUIET, poll_fn(|context| Pin::new(&mut *stream).poll_next(context))).await;
    assert!(message.is_err(), "nothing changed, but it was signalled: {message:?}");
}

/// Path, interface, member and all words of one signal.
fn told(message: &Message) -> (String, String) {
    let header = message.header();
    let member = header.member().map(ToString::to_string).unwrap_or_default();
    (header.path().map(ToString::to_string).unwrap_or_default(), member)
}

fn changed(message: &Message) -> Vec<(String, String)> {
    let (_, changed, invalid): (String, HashMap<String, OwnedVariant>, Vec<String>) =
        message.body().deserialize().expect("as every PropertiesChanged");
    assert_eq!(invalid, [""; 0]);
    let mut changed: Vec<_> = changed.into_iter().map(|(key, value)| (key, shown(&value))).collect();
    changed.sort();
    changed
}

fn shown(value: &Variant<'_>) -> String {
    value.to_string()
}

#[tokio::test]
async fn everything_has_an_object_with_what_the_status_says_of_it() {
    let bus = Bus::start();
    let _daemon = Daemon::start(&bus).await;
    let connection = bus.connect().await;
    let manager = ObjectManagerProxy::builder(&connection).destination("org.hafailover1").path("/org/hafailover1");
    let objects = manager.build().await.unwrap().get_managed_objects().await.unwrap();
    let property = |path: &str, interface: &str, name: &str| {
        let object = objects.iter().find(|(at, _)| at.as_str() == path).unwrap_or_else(|| panic!("no {path}")).1;
        let properties = object.iter().find(|(at, _)| at.as_str() == interface).expect("it has its interface").1;
        shown(properties.get(name).unwrap_or_else(|| panic!("{path} has no {name}")))
    };
    for (path, interface, name, value) in [
        ("/org/hafailover1/group/web", "org.hafailover1.Group", "Owner", "\"alpha\""),
        ("/org/hafailover1/group/web", "org.hafailover1.Group", "Epoch", "uint32 7"),
        ("/org/hafailover1/group/web", "org.hafailover1.Group", "State", "\"running\""),
        ("/org/hafailover1/group/web", "org.hafailover1.Group", "Why", "\"alpha owns it\""),
        ("/org/hafailover1/group/web", "org.hafailover1.Group", "Addresses", "[\"10.0.0.77/24 dev eth0\"]"),
        ("/org/hafailover1/group/web", "org.hafailover1.Group", "Members", "[\"nginx.service\"]"),
        ("/org/hafailover1/group/web", "org.hafailover1.Group", "Banned", "\"\""),
        ("/org/hafailover1/group/web", "org.hafailover1.Group", "StoppedByOperator", "false"),
        ("/org/hafailover1/group/web", "org.hafailover1.Group", "Parked", "false"),
        ("/org/hafailover1/node/beta", "org.hafailover1.Node", "Standby", "false"),
        ("/org/hafailover1/node/alpha", "org.hafailover1.Node", "Local", "true"),
        ("/org/hafailover1/node/beta", "org.hafailover1.Node", "Local", "false"),
        ("/org/hafailover1/node/beta", "org.hafailover1.Node", "State", "\"alive\""),
        ("/org/hafailover1/node/beta", "org.hafailover1.Node", "Configuration", "\"same\""),
        ("/org/hafailover1/link/hb_2d0", "org.hafailover1.Link", "Name", "\"hb-0\""),
        ("/org/hafailover1/link/hb_2d0", "org.hafailover1.Link", "State", "\"usable\""),
        ("/org/hafailover1/link/hb_2d0", "org.hafailover1.Link", "Heard", "[\"beta\"]"),
    ] {
        assert_eq!(property(path, interface, name), value, "{path} {name}");
    }
    let own = |interfaces: &HashMap<_, _>| {
        interfaces.keys().any(|name: &OwnedInterfaceName| name.starts_with("org.hafailover1"))
    };
    assert_eq!(objects.values().filter(|object| own(object)).count(), 4, "{:?}", objects.keys());
}

#[tokio::test]
async fn an_operators_words_are_properties() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let mut signals = signals(&bus).await;
    daemon.change(|status| {
        status.nodes[1].standby = true;
        status.groups[0].parked = true;
        status.maintenance = true;
    });
    for (path, property) in [
        ("/org/hafailover1/node/beta", "Standby"),
        ("/org/hafailover1/group/web", "Parked"),
        ("/org/hafailover1", "Maintenance"),
    ] {
        let signal = next(&mut signals).await;
        assert_eq!(told(&signal), (path.to_owned(), "PropertiesChanged".to_owned()));
        assert_eq!(changed(&signal), [(property.to_owned(), "true".to_owned())]);
    }
    quiet(&mut signals).await;
}

#[tokio::test]
async fn what_changed_is_signalled_once_and_time_that_passes_is_not() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let mut signals = signals(&bus).await;
    daemon.change(|status| status.links[0].peers[0].received += 100);
    quiet(&mut signals).await;
    daemon.change(|status| {
        status.groups[0].owner = Some("beta".into());
        status.groups[0].epoch = 8;
        status.groups[0].state = "inactive".into();
        status.attention = vec!["node beta is late".into()];
    });
    let group = next(&mut signals).await;
    let word = |text: &str| text.to_owned();
    assert_eq!(told(&group), (word("/org/hafailover1/group/web"), word("PropertiesChanged")));
    let expected =
        [("Epoch", "uint32 8"), ("Owner", "\"beta\""), ("State", "\"inactive\"")].map(|(a, b)| (word(a), word(b)));
    assert_eq!(changed(&group), expected);
    let manager = next(&mut signals).await;
    assert_eq!(told(&manager), (word("/org/hafailover1"), word("PropertiesChanged")));
    assert_eq!(changed(&manager), [(word("Attention"), word("[\"node beta is late\"]"))]);
    for (member, words) in [
        ("GroupOwnerChanged", vec!["web", "beta", "alpha"]),
        ("GroupStateChanged", vec!["web", "inactive", "running"]),
        ("Alarm", vec!["node beta is late"]),
    ] {
        let signal = next(&mut signals).await;
        assert_eq!(told(&signal), (word("/org/hafailover1"), word(member)));
        let said = match words.len() {
            1 => vec![signal.body().deserialize::<String>().unwrap()],
            _ => signal.body().deserialize::<(String, String, String)>().map(|(a, b, c)| vec![a, b, c]).unwrap(),
        };
        assert_eq!(said, words);
    }
    quiet(&mut signals).await;
}

#[tokio::test]
async fn a_flood_of_changes_is_told_as_a_few() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let mut signals = signals(&bus).await;
    for epoch in 100..200 {
        daemon.change(|status| status.groups[0].epoch = epoch);
        sleep(Duration::from_millis(5)).await;
    }
    let mut count = 0;
    loop {
        count += 1;
        let last = changed(&next(&mut signals).await);
        if last == [("Epoch".to_owned(), "uint32 199".to_owned())] {
            break;
        }
    }
    assert!(count < 20, "{count} signals within half a second");
    quiet(&mut signals).await;
}

#[tokio::test]
async fn groups_come_and_go() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let mut signals = signals(&bus).await;
    daemon.change(|status| status.groups = vec![group("db")]);
    let mut members = Vec::new();
    while members.last().is_none_or(|last| last != "GroupStateChanged web") {
        let signal = next(&mut signals).await;
        let (_, member) = told(&signal);
        let body = signal.body();
        let on = match member.as_str() {
            "InterfacesAdded" => {
                let added: (zbus::OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>) =
                    body.deserialize().unwrap();
                assert_eq!(shown(&added.1["org.hafailover1.Group"]["Owner"]), "\"alpha\"");
                added.0.to_string()
            }
            "InterfacesRemoved" => body.deserialize::<(zbus::OwnedObjectPath, Vec<String>)>().unwrap().0.to_string(),
            _ => body.deserialize::<(String, String, String)>().unwrap().0,
        };
        members.push(format!("{member} {on}"));
    }
    let expected = [
        "InterfacesRemoved /org/hafailover1/group/web",
        "InterfacesAdded /org/hafailover1/group/db",
        "GroupOwnerChanged db",
        "GroupOwnerChanged web",
        "GroupStateChanged db",
        "GroupStateChanged web",
    ];
    assert_eq!(members, expected);
}
