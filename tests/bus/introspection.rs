//! The interfaces are what `packaging/interfaces` says, and change only on purpose: with `HAFAILOVER_WRITE_INTERFACES=1` this
//! test writes those files anew.

use crate::served::{Bus, Daemon};
use std::path::Path;
use zbus::fdo::IntrospectableProxy;

const STANDARD: [&str; 3] =
    ["org.freedesktop.DBus.Introspectable", "org.freedesktop.DBus.Peer", "org.freedesktop.DBus.Properties"];

const OBJECTS: [(&str, &str); 4] = [
    ("/org/hafailover1", "org.hafailover1.Manager"),
    ("/org/hafailover1/node/beta", "org.hafailover1.Node"),
    ("/org/hafailover1/link/hb_2d0", "org.hafailover1.Link"),
    ("/org/hafailover1/group/web", "org.hafailover1.Group"),
];

#[tokio::test]
async fn every_object_has_the_interfaces_that_are_installed_and_no_others() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus).await;
    let connection = bus.connect().await;
    for (path, own) in OBJECTS {
        let xml = introspect(&connection, path).await;
        let mut wanted: Vec<&str> = STANDARD.into_iter().chain([own]).collect();
        if path == "/org/hafailover1" {
            wanted.push("org.freedesktop.DBus.ObjectManager");
        }
        wanted.sort_unstable();
        let mut names = named(&xml, "interface");
        names.sort_unstable();
        assert_eq!(names, wanted, "{path}");
        compare(own, &interface(&xml, own));
    }
    drop(daemon);
}

#[tokio::test]
async fn every_object_is_found_from_the_root() {
    let bus = Bus::start();
    let _daemon = Daemon::start(&bus).await;
    let connection = bus.connect().await;
    let children = async |path: &str| {
        let xml = introspect(&connection, path).await;
        let mut names: Vec<String> = named(&xml, "node").into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(children("/org/hafailover1").await, ["group", "link", "node"]);
    assert_eq!(children("/org/hafailover1/node").await, ["alpha", "beta"]);
    assert_eq!(children("/org/hafailover1/link").await, ["hb_2d0"]);
    assert_eq!(children("/org/hafailover1/group").await, ["web"]);
}

async fn introspect(connection: &zbus::Connection, path: &str) -> String {
    let proxy = IntrospectableProxy::builder(connection).destination("org.hafailover1").path(path.to_owned());
    proxy.build().await.expect("these are names").introspect().await.expect("every object can be introspected")
}

/// Names of this kind that belong to the object itself: those of its children are deeper inside.
fn named<'a>(xml: &'a str, kind: &str) -> Vec<&'a str> {
    let begin = format!("  <{kind} name=\"");
    xml.lines().filter_map(|line| line.strip_prefix(&begin)?.split('"').next()).collect()
}

/// One interface as a file of its own.
fn interface(xml: &str, name: &str) -> String {
    let begin = xml.find(&format!("  <interface name=\"{name}\">")).expect("it is there");
    let end = begin + xml[begin..].find("</interface>").expect("it ends") + "</interface>".len();
    format!(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
         \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n{}\n</node>\n",
        &xml[begin..end]
    )
}

fn compare(name: &str, real: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("packaging/interfaces/{name}.xml"));
    if std::env::var_os("HAFAILOVER_WRITE_INTERFACES").is_some() {
        std::fs::write(&file, real).expect("the source tree is ours");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let file = file.display();
    assert_eq!(
        real, committed,
        "{file} is not what the daemon serves. A change on purpose: run this with HAFAILOVER_WRITE_INTERFACES=1, and see \
         org.hafailover1(5)"
    );
}
