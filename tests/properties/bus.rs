//! Any call of anybody to `org.hafailover1`, over a real bus of the test's own: each is answered, none ends the daemon's side of it.

use crate::bus_daemon::BusDaemon;
use hafailover::cluster::{Answer, Status};
use hafailover::config::model::Config;
use hafailover::dbus::{Desk, serve_on};
use hafailover::host::questions::Question;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use zbus::Connection;

const NAME: &str = "org.hafailover1";
const PATH: &str = "/org/hafailover1";
const MANAGER: &str = "org.hafailover1.Manager";
const PATIENCE: Duration = Duration::from_secs(10);

/// What a call carries: the right signatures, and others.
#[derive(Clone, Debug)]
enum Body {
    Nothing,
    Text(String),
    Flag(bool),
    TextFlag(String, bool),
    Two(String, String),
    Three(String, String, String),
    Number(u32),
    Mixed(bool, i64, f64),
    Bytes(Vec<u8>),
    List(Vec<String>),
    Table(BTreeMap<String, u64>),
    Nested(Vec<(String, Vec<BTreeMap<u8, bool>>)>),
}

#[derive(Clone, Debug)]
struct Call {
    path: String,
    interface: String,
    method: String,
    body: Body,
}

/// Names that there are, words that methods take, and what comes near to them.
const WORDS: [&str; 16] = [
    "web", "alpha", "beta", "", "..", "web ", "WEB", "\u{202e}", "%n", "all", "local", "foreign", "failback", "on",
    "off", "status",
];

/// Every method of the manager, and of what the bus gives every object.
const METHODS: [&str; 17] = [
    "Status",
    "Why",
    "Move",
    "Stop",
    "Start",
    "Clear",
    "Reload",
    "Standby",
    "Takeover",
    "Online",
    "SetMaintenance",
    "Record",
    "Get",
    "GetAll",
    "Set",
    "Introspect",
    "Ping",
];

/// What has an object of its own, by the status below.
const OBJECTS: [(&str, &str); 5] = [
    ("/org/hafailover1/node/alpha", "org.hafailover1.Node"),
    ("/org/hafailover1/node/beta", "org.hafailover1.Node"),
    ("/org/hafailover1/link/hb_2d0", "org.hafailover1.Link"),
    ("/org/hafailover1/group/web", "org.hafailover1.Group"),
    (PATH, MANAGER),
];
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

fn status() -> Status {
    serde_json::from_str(include_str!("../bus/status.json")).expect("a status")
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned),
        2 => "[^\\x00]{0,40}",
        1 => (0..70_000usize).prop_map(|length| "x".repeat(length)),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::Nothing),
        text().prop_map(Body::Text),
        any::<bool>().prop_map(Body::Flag),
        (text(), any::<bool>()).prop_map(|(text, flag)| Body::TextFlag(text, flag)),
        (text(), text()).prop_map(|(first, second)| Body::Two(first, second)),
        (text(), text(), text()).prop_map(|(first, second, third)| Body::Three(first, second, third)),
        any::<u32>().prop_map(Body::Number),
        any::<(bool, i64, f64)>().prop_map(|(flag, number, real)| Body::Mixed(flag, number, real)),
        prop::collection::vec(any::<u8>(), 0..2000).prop_map(Body::Bytes),
        prop::collection::vec(text(), 0..5).prop_map(Body::List),
        prop::collection::btree_map("[a-z]{0,9}", any::<u64>(), 0..9).prop_map(Body::Table),
        prop::collection::vec(
            ("[a-z]{0,9}", prop::collection::vec(prop::collection::btree_map(any::<u8>(), any::<bool>(), 0..4), 0..4)),
            0..4
        )
        .prop_map(Body::Nested),
    ]
}

/// What the interface takes, with any value in it.
fn right_call() -> impl Strategy<Value = Call> {
    let one = prop::sample::select(vec!["Why", "Stop", "Start", "Clear", "Takeover", "Record"]);
    let right = prop_oneof![
        6 => (one, text()).prop_map(|(method, text)| (method, Body::Text(text))),
        2 => (text(), text()).prop_map(|(group, node)| ("Move", Body::Two(group, node))),
        2 => (text(), any::<bool>()).prop_map(|(groups, stay)| ("Standby", Body::TextFlag(groups, stay))),
        1 => any::<bool>().prop_map(|on| ("SetMaintenance", Body::Flag(on))),
        1 => prop::sample::select(vec!["Status", "Reload", "Online"]).prop_map(|method| (method, Body::Nothing)),
    ];
    right.prop_map(|(method, body)| Call { path: PATH.into(), interface: MANAGER.into(), method: method.into(), body })
}

/// Of an object that is there, by the names it has and by others.
fn property_call() -> impl Strategy<Value = Call> {
    let property =
        prop_oneof![2 => prop::sample::select(vec!["Name", "State", "Owner"]).prop_map(str::to_owned), 1 => text()];
    (prop::sample::select(OBJECTS.to_vec()), property, any::<bool>()).prop_map(|((path, interface), property, one)| {
        let (method, body) = match one {
            true => ("Get", Body::Two(interface.into(), property)),
            false => ("GetAll", Body::Text(interface.into())),
        };
        Call { path: path.into(), interface: PROPERTIES.into(), method: method.into(), body }
    })
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![2 => right_call(), 1 => property_call(), 2 => any_call()]
}

fn any_call() -> impl Strategy<Value = Call> {
    let method = prop_oneof![6 => prop::sample::select(METHODS.to_vec()).prop_map(str::to_owned), 1 => "[A-Za-z_][A-Za-z0-9_]{0,60}"];
    let interfaces = [
        MANAGER,
        "org.hafailover1.Node",
        "org.hafailover1.Link",
        "org.hafailover1.Group",
        PROPERTIES,
        "org.freedesktop.DBus.Introspectable",
        "org.freedesktop.DBus.Peer",
    ];
    let interface = prop_oneof![
        6 => prop::sample::select(interfaces.to_vec()).prop_map(str::to_owned),
        1 => "[a-z_]{1,9}(\\.[A-Za-z_]{1,9}){1,4}"
    ];
    let object = prop::sample::select(OBJECTS.to_vec()).prop_map(|(path, _)| path.to_owned());
    let path = prop_oneof![4 => Just(PATH.to_owned()), 2 => object, 1 => "(/[A-Za-z0-9_]{1,9}){1,5}", 1 => Just("/".to_owned())];
    (path, interface, method, body()).prop_map(|(path, interface, method, body)| Call { path, interface, method, body })
}

async fn make(connection: &Connection, call: &Call) -> zbus::Result<zbus::Message> {
    let (path, interface, method) = (call.path.as_str(), Some(call.interface.as_str()), call.method.as_str());
    let to = Some(NAME);
    match &call.body {
        Body::Nothing => connection.call_method(to, path, interface, method, &()).await,
        Body::Text(text) => connection.call_method(to, path, interface, method, text).await,
        Body::Flag(flag) => connection.call_method(to, path, interface, method, flag).await,
        Body::TextFlag(text, flag) => connection.call_method(to, path, interface, method, &(text, flag)).await,
        Body::Two(first, second) => connection.call_method(to, path, interface, method, &(first, second)).await,
        Body::Three(first, second, third) => {
            connection.call_method(to, path, interface, method, &(first, second, third)).await
        }
        Body::Number(number) => connection.call_method(to, path, interface, method, number).await,
        Body::Mixed(flag, number, real) => {
            connection.call_method(to, path, interface, method, &(flag, number, real)).await
        }
        Body::Bytes(bytes) => connection.call_method(to, path, interface, method, bytes).await,
        Body::List(list) => connection.call_method(to, path, interface, method, list).await,
        Body::Table(table) => connection.call_method(to, path, interface, method, table).await,
        Body::Nested(nested) => connection.call_method(to, path, interface, method, nested).await,
    }
}

/// A daemon's host thread, as far as the bus sees it.
async fn answer(mut questions: mpsc::Receiver<Question>) {
    while let Some(question) = questions.recv().await {
        // Whoever asked may have gone.
        match question {
            Question::Status(answer) => drop(answer.send(status())),
            Question::Command(_, answer) | Question::Reload(answer) | Question::Record(_, answer) => {
                drop(answer.send(Answer::Done("done".into())))
            }
        }
    }
}

#[test]
fn every_call_is_answered_and_the_daemon_goes_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bus = BusDaemon::start("--session");
    let (asks, questions) = mpsc::channel(32);
    let (served, caller) = runtime.block_on(async {
        tokio::spawn(answer(questions));
        let config: Arc<Config> = Arc::new(crate::holds::sound_config());
        let served = serve_on(bus.builder(), Arc::new(Desk::new(watch::channel(config).1, asks, Arc::default())))
            .await
            .expect("the name is free");
        (served, bus.builder().build().await.expect("a second connection"))
    });
    for (path, interface) in OBJECTS {
        let body = Body::Text(interface.into());
        let all = Call { path: path.into(), interface: PROPERTIES.into(), method: "GetAll".into(), body };
        let there = runtime.block_on(make(&caller, &all));
        assert!(there.is_ok(), "{path}: {there:?}");
    }
    let manager = include_str!("../../packaging/interfaces/org.hafailover1.Manager.xml");
    for method in manager.split("<method name=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(METHODS.contains(&method), "{method} is never called");
    }
    let outcome = TestRunner::new(crate::configuration::few()).run(&call(), |call| {
        let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, make(&caller, &call)).await });
        match answered {
            // An answer, or an error that somebody sent.
            Ok(Ok(_) | Err(zbus::Error::MethodError(..) | zbus::Error::FDO(_))) => {}
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
        let stop = Call {
            path: PATH.into(),
            interface: MANAGER.into(),
            method: "Stop".into(),
            body: Body::Text("web".into()),
        };
        let reply = runtime.block_on(async { tokio::time::timeout(PATIENCE, make(&caller, &stop)).await });
        prop_assert!(matches!(&reply, Ok(Ok(_))), "afterwards: {:?}", reply);
        Ok(())
    });
    drop(served);
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
